"""Turns a plan into checked bytes and writes them whole or not at all."""
