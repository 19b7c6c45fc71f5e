"""What is believed, and why: the policy, its conditions, ban lists and registries."""
