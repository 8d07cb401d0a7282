"""Hypothesis profiles: `fast` is the same examples in every run; `slow` (--hypothesis-profile=slow) searches."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fast", max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("slow", max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("fast")
