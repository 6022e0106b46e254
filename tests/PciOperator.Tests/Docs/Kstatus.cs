using System.Text.Json.Nodes;

namespace PciOperator.Tests.Docs;

/// <summary>
/// What kstatus says of a custom resource, by its own rules (https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus): deletion,
/// then the observed generation, then Reconciling and Stalled as they come, then Ready; else the object is what it should be.
/// </summary>
internal static class Kstatus
{
    public static string Of(JsonNode o)
    {
        if (o["metadata"]?["deletionTimestamp"] is not null)
            return "Terminating";
        if (IsBehind(o))
            return "InProgress";
        JsonArray conditions = o["status"]?["conditions"]?.AsArray() ?? [];
        foreach (JsonNode? condition in conditions.Where(c => c!["status"]!.ToString() == "True"))
        {
            switch (condition!["type"]!.ToString())
            {
                case "Reconciling":
                    return "InProgress";
                case "Stalled":
                    return "Failed";
            }
        }

        string? ready = conditions.FirstOrDefault(c => c!["type"]!.ToString() == "Ready")?["status"]?.ToString();
        return ready is "False" or "Unknown" ? "InProgress" : "Current";
    }

    /// <summary>Whether a status is about an earlier generation; one that does not say so is not.</summary>
    public static bool IsBehind(JsonNode o) =>
        o["status"]?["observedGeneration"]?.GetValue<long>() is { } observed && observed != o["metadata"]!["generation"]!.GetValue<long>();
}
