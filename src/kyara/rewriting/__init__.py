"""Rewriting what a network knows: edit.py says what is asked, hosts.py makes pictures to ask it of, lessons.py turns
both into keys and values, linear.py and nonlinear.py are the two memories that learn them, differences.py keeps what
changed, and rewrite.py is the verb."""
