using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.Scheduling;

/// <summary>Why a pod has no node, in the scheduler's words.</summary>
internal sealed class UnschedulableException(string message) : Exception(message);

/// <summary>What the scheduler goes by in one decision.</summary>
internal sealed record Snapshot(
    IReadOnlyList<JsonObject> Nodes,
    IReadOnlyList<JsonObject> Pods,
    IReadOnlyList<JsonObject> Claims,
    IReadOnlyList<JsonObject> Slices,
    IReadOnlyList<JsonObject> Classes
)
{
    /// <summary>The ResourceClaims that a pod uses.</summary>
    /// <exception cref="UnschedulableException">One is not there, or is going.</exception>
    public IReadOnlyList<JsonObject> ClaimsOf(JsonObject pod) => [.. pod.Items("spec", "resourceClaims").Select(use => ClaimOf(pod, use))];

    private JsonObject ClaimOf(JsonObject pod, JsonObject use)
    {
        string name = use.Text("resourceClaimName");
        bool isFromTemplate = name.Length == 0;
        if (isFromTemplate)
        {
            name = pod.Items("status", "resourceClaimStatuses")
                .FirstOrDefault(s => s.Text("name") == use.Text("name"))
                .Text("resourceClaimName");
            if (name.Length == 0)
                throw new UnschedulableException($"pod \"{pod.Key()}\": ResourceClaim not created yet");
        }

        JsonObject claim =
            Claims.FirstOrDefault(c =>
                c.Text("metadata", "name") == name && c.Text("metadata", "namespace") == pod.Text("metadata", "namespace")
            ) ?? throw new UnschedulableException($"resourceclaim \"{name}\" not found");
        if (claim.At("metadata", "deletionTimestamp") is not null)
            throw new UnschedulableException($"resourceclaim \"{name}\" is being deleted");
        if (isFromTemplate && !claim.Items("metadata", "ownerReferences").Any(o => o.Text("uid") == pod.Uid() && o.IsTrue("controller")))
            throw new UnschedulableException($"ResourceClaim {claim.Key()} was not created for pod {pod.Key()} (pod is not owner)");
        return claim;
    }
}
