"""The isolation proof: from the generated device policies, no thing reaches what belongs to another."""
