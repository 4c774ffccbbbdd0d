"""The functions behind `import sycophancy`: models, scores, rows, metrics and runs."""
