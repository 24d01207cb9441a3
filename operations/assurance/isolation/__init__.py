"""Proves from the generated device policies alone that no thing reaches what belongs to another."""
