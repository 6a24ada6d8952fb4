// Carries the precompiled headers of TriremeTargets.cmake; it has no code of its own.
