"""Right of the stages: what a verdict leads to. It acts on the world, so every step can be repeated or undone.

| Module | Subject |
|---|---|
| ``steps`` | the facade: every step as a function of ``(workspace, settings, …)`` |
| ``by_hand`` | what a person decides: promote, rollback, the list of versions |
| ``moves`` | a change of champion as a note that survives a kill, and its steps |
| ``leftovers`` | what else a killed run leaves: open MLflow runs, temporary folders |
| ``decide`` | the verdict's identity, the outcome of a run and its closing line |
| ``pin`` | the champion and the last data's profile as files the stages may read |
| ``smoke`` | golden images through the model as the registry hands it out |
| ``publish`` | the hand-off folder and its pointer ``current`` |
| ``history`` | ``state/history.jsonl``: who was champion when, and why |
| ``notify`` | the webhook |
"""
