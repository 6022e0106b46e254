using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>JSON merge patch, RFC 7386.</summary>
internal static class MergePatch
{
    public static JsonNode? Apply(JsonNode? target, JsonNode? patch)
    {
        if (patch is not JsonObject changes)
            return patch.Copy();
        JsonObject result = target as JsonObject ?? [];
        foreach ((string name, JsonNode? value) in changes)
        {
            if (value is null)
            {
                result.Remove(name);
                continue;
            }

            result.TryGetPropertyValue(name, out JsonNode? old);
            if (old is not null)
                result.Remove(name);
            result[name] = Apply(old, value);
        }

        return result;
    }
}
