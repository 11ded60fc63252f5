"""The browser app, `kyara studio`: a local web server and its pages, thin calls to the verbs and the sampler.

The package is not called studio: `kyara.studio` is the verb."""
