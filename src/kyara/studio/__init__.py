"""The browser app: a local web server and its pages, thin calls to the verbs and the sampler."""
