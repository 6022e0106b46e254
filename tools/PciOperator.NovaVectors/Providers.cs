using System.Text.Json;
using PciOperator.Core;

namespace PciOperator.NovaVectors;

/// <summary>Which resource provider of Nova's Placement a device belongs to.</summary>
internal static class Providers
{
    /// <summary>
    /// As Nova's own pools say, else by its rule: a provider is named by the host and the address of the device, for a VF of its PF; a
    /// device with a physical network has none, and none has one where devices are not reported, or not in a way that Placement takes.
    /// </summary>
    /// <param name="line">The case.</param>
    /// <param name="answer">Nova's answer, or its answer to a step.</param>
    /// <param name="node">The host.</param>
    /// <param name="names">The providers that are asked for.</param>
    public static IReadOnlyDictionary<PciAddress, string> Of(
        JsonElement line,
        JsonElement? answer,
        NodeInventory node,
        IReadOnlyList<string> names
    )
    {
        var of = new Dictionary<PciAddress, string>();
        if (names.Count == 0)
            return of;
        bool reported =
            line.TryGetProperty("report_in_placement", out JsonElement report)
            && report.ValueKind == JsonValueKind.True
            && !(
                answer is { } a
                && a.TryGetProperty("placement", out JsonElement placement)
                && placement.ValueKind == JsonValueKind.Object
                && placement.TryGetProperty("error", out JsonElement error)
                && error.ValueKind == JsonValueKind.Object
            );
        foreach (NodeDevice d in node.Devices.Where(d => reported && d.Tags is { PhysicalNetwork: null }))
        {
            PciAddress address = d.Function is { IsVirtual: true, ParentAddress: { } pf } ? pf : d.Function.Address;
            if (names.FirstOrDefault(n => n.EndsWith($"_{address}", StringComparison.OrdinalIgnoreCase)) is { } name)
                of[d.Function.Address] = name;
        }

        if (answer is { } given && given.TryGetProperty("pools", out JsonElement pools) && pools.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonElement pool in pools.EnumerateArray().Where(p => VectorHost.Text(p, "rp_uuid") is not null))
            {
                foreach (JsonElement device in pool.GetProperty("devices").EnumerateArray())
                    of[PciAddress.Parse(device.GetString()!)] = VectorHost.Text(pool, "rp_uuid")!;
            }
        }

        return of;
    }
}
