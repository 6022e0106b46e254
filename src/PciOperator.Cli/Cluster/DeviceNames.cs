using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Cli.Cluster;

/// <summary>What devices are called: as their node's agent says, else as this machine's PCI ID list does, else by their ids.</summary>
internal sealed class DeviceNames
{
    private readonly IReadOnlyDictionary<(PciId, PciId), string> _local;

    /// <param name="io">Reads the list, if any device is without a name.</param>
    /// <param name="nodes">The nodes whose devices are named.</param>
    public DeviceNames(CliIo io, IEnumerable<PciNode> nodes)
    {
        var unnamed = nodes
            .SelectMany(n => (n.Status?.Devices ?? []).Concat(n.Status?.Unmatched ?? []))
            .Where(d => string.IsNullOrEmpty(d.Name))
            .Select(IdsOf)
            .OfType<(PciId, PciId)>()
            .ToHashSet();
        _local =
            unnamed.Count > 0 && io.ReadPciIds() is { } file ? PciIdList.Find(file, unnamed) : new Dictionary<(PciId, PciId), string>();
    }

    /// <summary>A device's name.</summary>
    public string Of(PciNodeDevice device) =>
        !string.IsNullOrEmpty(device.Name) ? device.Name
        : IdsOf(device) is { } ids && _local.TryGetValue(ids, out string? name) ? name
        : $"{device.VendorId}:{device.ProductId}";

    /// <summary>A name without what companies are called by law.</summary>
    public static string Short(string name)
    {
        foreach (string legal in Legal)
            name = name.Replace(legal, "", StringComparison.Ordinal);
        return name;
    }

    private static readonly string[] Legal = [" Corporation", ", Inc.", " Inc.", " Co., Ltd.", " Co Ltd", " Technologies", " Limited"];

    private static (PciId, PciId)? IdsOf(PciNodeDevice device) =>
        PciId.TryParse(device.VendorId, out PciId vendor) && PciId.TryParse(device.ProductId, out PciId product) ? (vendor, product) : null;
}
