"""The experiments of docs/experiments.md and docs/linking.md: cells, results that survive a stop, statistics, page."""
