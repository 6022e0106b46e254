using System.Globalization;
using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Tables;

/// <summary>The columns of built-in kinds after Name, as kubectl's users know them.</summary>
internal static class BuiltInColumns
{
    public static IReadOnlyList<Column> Of(ResourceType type) =>
        type.Kind switch
        {
            "Node" => Nodes,
            "Pod" => Pods,
            "Namespace" => Namespaces,
            "Event" => EventColumns,
            "CustomResourceDefinition" => Definitions,
            "Lease" => Leases,
            "ConfigMap" => ConfigMaps,
            "ResourceClaim" => ResourceClaims,
            "ResourceSlice" => ResourceSlices,
            _ => AgeOnly,
        };

    private static readonly Column[] AgeOnly = [PrinterColumns.Age];

    private static readonly Column[] Nodes =
    [
        Text("Status", o => NodeStatus(o)),
        Text("Roles", o => NodeRoles(o)),
        PrinterColumns.Age,
        Text("Version", o => o.Obj("status").Obj("nodeInfo").Str("kubeletVersion") ?? ""),
        Text("Internal-IP", o => Address(o, "InternalIP"), 1),
        Text("External-IP", o => Address(o, "ExternalIP"), 1),
        Text("OS-Image", o => o.Obj("status").Obj("nodeInfo").Str("osImage") ?? "<unknown>", 1),
        Text("Kernel-Version", o => o.Obj("status").Obj("nodeInfo").Str("kernelVersion") ?? "<unknown>", 1),
        Text("Container-Runtime", o => o.Obj("status").Obj("nodeInfo").Str("containerRuntimeVersion") ?? "<unknown>", 1),
    ];

    private static readonly Column[] Pods =
    [
        Text("Ready", o => $"{Containers(o).Count(c => c.Flag("ready"))}/{o.Obj("spec").Arr("containers")?.Count ?? 0}"),
        Text(
            "Status",
            o =>
                o.Obj("metadata").Str("deletionTimestamp") is not null
                    ? "Terminating"
                    : o.Obj("status").Str("reason") ?? o.Obj("status").Str("phase") ?? "Unknown"
        ),
        Text("Restarts", o => Containers(o).Sum(c => c.Int("restartCount") ?? 0).ToString(CultureInfo.InvariantCulture)),
        PrinterColumns.Age,
        Text("IP", o => o.Obj("status").Str("podIP") ?? "<none>", 1),
        Text("Node", o => o.Obj("spec").Str("nodeName") ?? "<none>", 1),
        Text("Nominated Node", o => o.Obj("status").Str("nominatedNodeName") ?? "<none>", 1),
        Text("Readiness Gates", _ => "<none>", 1),
    ];

    private static readonly Column[] Namespaces = [Text("Status", o => o.Obj("status").Str("phase") ?? ""), PrinterColumns.Age];

    private static readonly Column[] Definitions = [new("Created At", "date", (o, _) => o.Obj("metadata")?["creationTimestamp"].Copy())];

    private static readonly Column[] Leases = [Text("Holder", o => o.Obj("spec").Str("holderIdentity") ?? ""), PrinterColumns.Age];

    private static readonly Column[] ConfigMaps =
    [
        Text("Data", o => ((o.Obj("data")?.Count ?? 0) + (o.Obj("binaryData")?.Count ?? 0)).ToString(CultureInfo.InvariantCulture)),
        PrinterColumns.Age,
    ];

    private static readonly Column[] ResourceClaims = [Text("State", ClaimState), PrinterColumns.Age];

    private static readonly Column[] ResourceSlices =
    [
        Text("Node", o => o.Obj("spec").Str("nodeName") ?? "<unset>"),
        Text("Driver", o => o.Obj("spec").Str("driver") ?? ""),
        Text("Pool", o => o.Obj("spec").Obj("pool").Str("name") ?? ""),
        PrinterColumns.Age,
    ];

    // Objects of both event APIs come here; names differ.
    private static readonly Column[] EventColumns =
    [
        new("Last Seen", "string", (o, now) => JsonValue.Create(LastSeen(o, now))),
        Text("Type", o => o.Str("type") ?? ""),
        Text("Reason", o => o.Str("reason") ?? ""),
        Text("Object", o => Regarding(o) is var r && r.Str("name") is { } name ? $"{r.Str("kind")?.ToLowerInvariant()}/{name}" : ""),
        Text("Subobject", o => Regarding(o).Str("fieldPath") ?? "", 1),
        Text("Source", o => o.Str("reportingComponent") ?? o.Str("reportingController") ?? o.Obj("source").Str("component") ?? "", 1),
        Text("Message", o => (o.Str("message") ?? o.Str("note") ?? "").Trim()),
        new("First Seen", "string", (o, now) => JsonValue.Create(Ago(FirstTime(o), now)), 1),
        Text("Count", o => Count(o).ToString(CultureInfo.InvariantCulture), 1),
    ];

    private static Column Text(string name, Func<JsonObject, string> value, int priority = 0) =>
        new(name, "string", (o, _) => JsonValue.Create(value(o)), priority);

    private static string ClaimState(JsonObject claim)
    {
        var states = new List<string>();
        if (claim.Obj("metadata").Str("deletionTimestamp") is not null)
            states.Add("deleted");
        if (claim.Obj("status").Obj("allocation") is not null)
            states.Add("allocated");
        if (claim.Obj("status").Arr("reservedFor") is { Count: > 0 })
            states.Add("reserved");
        return states.Count == 0 ? "pending" : string.Join(',', states);
    }

    private static string NodeStatus(JsonObject node)
    {
        JsonObject? ready = node.Obj("status").Arr("conditions")?.OfType<JsonObject>().FirstOrDefault(c => c.Str("type") == "Ready");
        string status =
            ready is null ? "Unknown"
            : ready.Str("status") == "True" ? "Ready"
            : "NotReady";
        return node.Obj("spec").Flag("unschedulable") ? status + ",SchedulingDisabled" : status;
    }

    private static string NodeRoles(JsonObject node)
    {
        const string prefix = "node-role.kubernetes.io/";
        var roles = (node.Obj("metadata").Obj("labels") ?? [])
            .Select(l => l.Key)
            .Where(k => k.StartsWith(prefix, StringComparison.Ordinal))
            .Select(k => k[prefix.Length..])
            .Order(StringComparer.Ordinal)
            .ToList();
        return roles.Count == 0 ? "<none>" : string.Join(",", roles);
    }

    private static string Address(JsonObject node, string type) =>
        node.Obj("status").Arr("addresses")?.OfType<JsonObject>().FirstOrDefault(a => a.Str("type") == type).Str("address") ?? "<none>";

    private static IEnumerable<JsonObject> Containers(JsonObject pod) =>
        pod.Obj("status").Arr("containerStatuses")?.OfType<JsonObject>() ?? [];

    private static JsonObject? Regarding(JsonObject e) => e.Obj("involvedObject") ?? e.Obj("regarding");

    private static long Count(JsonObject e) => e.Obj("series").Int("count") ?? e.Int("count") ?? e.Int("deprecatedCount") ?? 1;

    private static string? FirstTime(JsonObject e) => e.Str("firstTimestamp") ?? e.Str("deprecatedFirstTimestamp") ?? e.Str("eventTime");

    private static string LastSeen(JsonObject e, DateTimeOffset now)
    {
        string? first = FirstTime(e);
        string? last = e.Obj("series").Str("lastObservedTime") ?? e.Str("lastTimestamp") ?? e.Str("deprecatedLastTimestamp") ?? first;
        return Count(e) > 1 ? $"{Ago(last, now)} (x{Count(e)} over {Ago(first, now)})" : Ago(last, now);
    }

    private static string Ago(string? timestamp, DateTimeOffset now) =>
        DateTimeOffset.TryParse(timestamp, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out DateTimeOffset then)
            ? PrinterColumns.HumanDuration(now - then)
            : "<unknown>";
}
