using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>metadata.managedFields: who last set which field.</summary>
internal static class ManagedFields
{
    public static void Update(ResourceType type, JsonObject? old, JsonObject next, WriteOptions options, string? subresource, string now)
    {
        _ = (type, old, next, options, subresource, now);
    }
}
