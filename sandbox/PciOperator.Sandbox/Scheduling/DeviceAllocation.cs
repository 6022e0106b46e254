using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.Scheduling;

/// <summary>Devices for the requests of ResourceClaims, on one node.</summary>
internal static class DeviceAllocation
{
    /// <summary>What each claim gets, by its UID; null: the node can't serve all of them.</summary>
    public static IReadOnlyDictionary<string, JsonObject>? Find(
        IEnumerable<JsonObject> claims,
        JsonObject node,
        Snapshot cluster,
        TimeProvider time
    )
    {
        HashSet<(string, string, string)> taken = [.. cluster.Taken];
        IReadOnlyList<OfferedDevice> here = cluster.OfferedOn(node);
        var found = new Dictionary<string, JsonObject>();
        foreach (JsonObject claim in claims)
        {
            var devices = new List<(string Request, OfferedDevice Device)>();
            foreach (JsonObject request in claim.Items("spec", "devices", "requests"))
            {
                if (Serve(request, here, taken, cluster) is not { } served)
                    return null;
                devices.AddRange(served.Select(d => (request.Text("name"), d)));
            }

            if (claim.Items("spec", "devices", "constraints").Any())
                throw new NotSupportedException($"the simulated scheduler knows no constraints: ResourceClaim {claim.Key()}");
            found[claim.Uid()] = Allocation(claim, devices, node, cluster, time);
        }

        return found;
    }

    private static List<OfferedDevice>? Serve(
        JsonObject request,
        IEnumerable<OfferedDevice> here,
        HashSet<(string, string, string)> taken,
        Snapshot cluster
    )
    {
        if (request.At("exactly") is not JsonObject exactly || exactly.Text("allocationMode") is not ("" or "ExactCount"))
            throw new NotSupportedException($"the simulated scheduler knows requests for an exact count alone: {request.ToJsonString()}");
        JsonObject deviceClass =
            cluster.Classes.FirstOrDefault(c => c.Text("metadata", "name") == exactly.Text("deviceClassName"))
            ?? throw new UnschedulableException(
                $"request {request.Text("name")}: device class {exactly.Text("deviceClassName")} does not exist"
            );
        List<string> selectors =
        [
            .. deviceClass.Items("spec", "selectors").Concat(exactly.Items("selectors")).Select(s => s.Text("cel", "expression")),
        ];
        long count = Math.Max(1, exactly.Number("count"));
        var served = new List<OfferedDevice>();
        foreach (OfferedDevice device in here)
        {
            if (served.Count < count && !taken.Contains(device.Id) && selectors.TrueForAll(device.Matches))
                served.Add(device);
        }

        if (served.Count < count)
            return null;
        served.ForEach(d => taken.Add(d.Id));
        return served;
    }

    private static JsonObject Allocation(
        JsonObject claim,
        List<(string Request, OfferedDevice Device)> devices,
        JsonObject node,
        Snapshot cluster,
        TimeProvider time
    )
    {
        var allocation = new JsonObject
        {
            ["devices"] = new JsonObject
            {
                ["results"] = new JsonArray([.. devices.Select(d => d.Device.Result(d.Request))]),
                ["config"] = new JsonArray([.. Config(claim, cluster)]),
            },
            ["allocationTimestamp"] = SimulatedScheduler.Time(time.GetUtcNow()),
        };
        if (NodesOf(devices, node) is { } nodes)
            allocation["nodeSelector"] = nodes;
        return allocation;
    }

    private static IEnumerable<JsonNode> Config(JsonObject claim, Snapshot cluster)
    {
        IEnumerable<string> classes = claim
            .Items("spec", "devices", "requests")
            .Select(r => r.Text("exactly", "deviceClassName"))
            .Distinct();
        IEnumerable<JsonObject> ofClasses = classes.SelectMany(name =>
            cluster.Classes.Where(c => c.Text("metadata", "name") == name).SelectMany(c => From(c.Items("spec", "config"), "FromClass"))
        );
        return ofClasses.Concat(From(claim.Items("spec", "devices", "config"), "FromClaim"));
    }

    private static IEnumerable<JsonObject> From(IEnumerable<JsonObject> config, string source)
    {
        foreach (JsonObject entry in config)
        {
            JsonObject copy = entry.DeepClone().AsObject();
            copy["source"] = source;
            yield return copy;
        }
    }

    /// <summary>Where the allocation holds: on the node alone when a device says so, else wherever its slices say; null: anywhere.</summary>
    private static JsonObject? NodesOf(List<(string Request, OfferedDevice Device)> devices, JsonObject node)
    {
        string name = node.Text("metadata", "name");
        if (devices.Exists(d => d.Device.Device.IsTrue("bindsToNode") || d.Device.Slice.Text("spec", "nodeName").Length > 0))
            return NodeTerms.Only(name);
        List<JsonObject> terms =
        [
            .. devices
                .Select(d => d.Device.Slice)
                .DistinctBy(s => s.Uid())
                .SelectMany(s => s.Items("spec", "nodeSelector", "nodeSelectorTerms")),
        ];
        if (terms.Count == 0)
            return null;
        var all = new JsonObject();
        foreach (string list in new[] { "matchExpressions", "matchFields" })
        {
            JsonNode[] requirements = [.. terms.SelectMany(t => t.Items(list)).Select(r => r.DeepClone())];
            if (requirements.Length > 0)
                all[list] = new JsonArray(requirements);
        }

        return new JsonObject { ["nodeSelectorTerms"] = new JsonArray(all) };
    }
}
