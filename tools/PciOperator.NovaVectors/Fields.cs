using System.Text.Json;

namespace PciOperator.NovaVectors;

/// <summary>
/// The fields that a file may have. What is not known is said, with the number of lines, and does not fail; what is known and means nothing
/// where it stands fails.
/// </summary>
internal static class Fields
{
    private static readonly HashSet<string> OfQuestion =
    [
        "request",
        "numa_policy",
        "flavor_numa_policy",
        "image_numa_policy",
        "numa_cells",
        "instance_numa_nodes",
        "rp_uuids",
    ];

    private static readonly HashSet<string> OfHost = ["devices", "device_specs", "aliases", "host_cells"];

    private static readonly HashSet<string> OfCase = ["id", "kind", "mutates", "report_in_placement", "pci_in_placement", "ops"];

    private static readonly HashSet<string> OfOperation = ["op", "instance"];

    private static readonly HashSet<string> OfDevice =
    [
        "address",
        "vendor_id",
        "product_id",
        "numa_node",
        "dev_type",
        "parent_addr",
        "ifname",
        "parent_ifname",
        "capabilities",
        "sriov_totalvfs",
        "vf_product_id",
        "label",
        "dev_id",
        "mac_address",
    ];

    private static readonly HashSet<string> OfCell = ["id", "socket"];

    /// <summary>Notes what is not known in a case or a sequence.</summary>
    public static void Note(LineResult result, JsonElement line)
    {
        Unknown(result, "a case", line, [OfCase, OfHost, OfQuestion]);
        NoteHost(result, line);
        foreach (JsonElement op in Items(line, "ops"))
        {
            Unknown(result, "an operation", op, [OfOperation, OfHost, OfQuestion]);
            NoteHost(result, op);
        }
    }

    /// <summary>What a field that is known says to an operation that it means nothing to; null when there is none.</summary>
    public static string? Misplaced(JsonElement op)
    {
        HashSet<string> meant = VectorHost.Text(op, "op") switch
        {
            "claim" or "claim+allocate" => OfQuestion,
            "rescan" => ["devices"],
            "restart" => OfHost,
            _ => [],
        };
        return op.EnumerateObject()
            .Where(p =>
                p.Value.ValueKind != JsonValueKind.Null
                && (OfQuestion.Contains(p.Name) || OfHost.Contains(p.Name))
                && !meant.Contains(p.Name)
            )
            .Select(p => p.Name)
            .FirstOrDefault();
    }

    private static void NoteHost(LineResult result, JsonElement host)
    {
        foreach (JsonElement device in Items(host, "devices"))
            Unknown(result, "a device", device, [OfDevice]);
        foreach (JsonElement cell in Items(host, "host_cells"))
            Unknown(result, "a host cell", cell, [OfCell]);
    }

    private static void Unknown(LineResult result, string what, JsonElement e, HashSet<string>[] known)
    {
        if (e.ValueKind != JsonValueKind.Object)
            return;
        foreach (JsonProperty p in e.EnumerateObject())
        {
            if (p.Value.ValueKind != JsonValueKind.Null && !Array.Exists(known, k => k.Contains(p.Name)))
                result.Ignored.Add($"{what}'s {p.Name}");
        }
    }

    private static JsonElement[] Items(JsonElement e, string name) =>
        e.ValueKind == JsonValueKind.Object && e.TryGetProperty(name, out JsonElement list) && list.ValueKind == JsonValueKind.Array
            ? [.. list.EnumerateArray()]
            : [];
}
