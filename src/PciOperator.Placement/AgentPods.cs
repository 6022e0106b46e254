using k8s.Models;

namespace PciOperator.Placement;

/// <summary>The agents' pods.</summary>
internal static class AgentPods
{
    /// <summary>Whether an agent's pod is ready.</summary>
    public static bool IsReady(V1Pod pod) =>
        pod.Metadata.DeletionTimestamp is null && pod.Status?.Conditions?.Any(c => c is { Type: "Ready", Status: "True" }) == true;
}
