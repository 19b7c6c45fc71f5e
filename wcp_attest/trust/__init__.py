"""Who is trusted, and why: the policy, its conditions, ban lists and registries."""
