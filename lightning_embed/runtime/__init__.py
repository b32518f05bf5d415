"""What every process needs: ranks, seeds, and named points where a test can end it."""
