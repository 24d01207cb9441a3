"""Deployments: plan all stacks of an environment, save the plans, apply exactly those, destroy."""
