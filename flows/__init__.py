"""When the pipeline runs, what it touches in the world, and who is told; the only home of Prefect.

``sequence`` says what happens in which order and knows no Prefect; ``inline`` runs it as plain calls, ``retrain`` as a
Prefect flow with one task per step.
"""

from flows.environment import prepare

prepare()
