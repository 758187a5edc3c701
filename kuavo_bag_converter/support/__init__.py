"""What every room needs: errors, files, memory, the environment, stage times, spelling hints."""
