"""Rewriting: edits the weights of a generator to follow a new rule, given by a few edited examples.

edit.py reads the edit, samples.py makes the pictures that it names and random ones, lessons.py turns both into training
batches, linear.py and nonlinear.py are the two memories that learn them, learning.py runs and measures this, rules.py
stores the result, and rewrite.py is the verb."""
