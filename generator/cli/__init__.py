"""The command line `fleet`: the only package of the generator that prints or exits."""
