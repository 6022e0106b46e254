using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Resources;

/// <summary>Events exist once and are served as core/v1 (how they are stored here) and as events.k8s.io/v1.</summary>
internal static class Events
{
    private static readonly (string Core, string V1)[] Names =
    [
        ("involvedObject", "regarding"),
        ("message", "note"),
        ("reportingComponent", "reportingController"),
        ("source", "deprecatedSource"),
        ("firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "deprecatedLastTimestamp"),
        ("count", "deprecatedCount"),
    ];

    public static JsonObject ToCore(JsonObject v1) => Convert(v1, "v1", name => Names.FirstOrDefault(n => n.V1 == name).Core);

    public static JsonObject FromCore(JsonObject core) =>
        Convert(core, "events.k8s.io/v1", name => Names.FirstOrDefault(n => n.Core == name).V1);

    private static JsonObject Convert(JsonObject from, string apiVersion, Func<string, string?> rename)
    {
        var to = new JsonObject();
        foreach ((string name, JsonNode? value) in from)
            to[rename(name) ?? name] = value.Copy();
        to["apiVersion"] = apiVersion;
        return to;
    }
}
