using System.Globalization;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>How user space reaches a function now, read from the host each time: what a container is given of it.</summary>
public sealed record VfioBinding
{
    private const string Container = "/dev/vfio/vfio";
    private const string Iommufd = "/dev/iommu";

    /// <summary>The function.</summary>
    public required PciAddress Address { get; init; }

    /// <summary>
    /// The device nodes that a VMM opens, in order: VFIO's container and the function's group, then, where the kernel has them, iommufd's and
    /// the function's own. Empty: it can't be opened now.
    /// </summary>
    public required IReadOnlyList<string> Nodes { get; init; }

    /// <summary>Why it can't be opened now, as a sentence; null: it can.</summary>
    public string? WhyNot { get; init; }

    /// <summary>Its NUMA node; null when the firmware doesn't say.</summary>
    public int? NumaNode { get; init; }

    /// <summary>The root bus that it hangs on, such as "pci0000:64"; null when sysfs doesn't say.</summary>
    public string? PcieRoot { get; init; }

    /// <summary>Reads it.</summary>
    /// <exception cref="HostIoException">The host can't be read.</exception>
    public static VfioBinding Read(IHostFileSystem files, PciAddress address)
    {
        string? link = files.ReadLink(SysfsPaths.Device(address));
        string? driver = Inventory.DriverOf(files, address);
        int? group = Inventory.GroupOf(files, address);
        string? groupNode =
            group is { } g && files.DeviceAt(SysfsPaths.GroupNode(g)) is { IsBlock: false } ? SysfsPaths.GroupNode(g) : null;
        string? deviceNode = Inventory.VfioDevice(files, address);
        var nodes = new List<string>();
        if (VfioDrivers.IsVfio(driver) && groupNode is not null && files.DeviceAt(Container) is not null)
            nodes.AddRange([Container, groupNode]);
        if (VfioDrivers.IsVfio(driver) && deviceNode is not null && files.DeviceAt(Iommufd) is not null)
            nodes.AddRange([Iommufd, deviceNode]);
        return new VfioBinding
        {
            Address = address,
            Nodes = nodes,
            WhyNot =
                nodes.Count > 0 ? null
                : link is null ? $"{address} is gone from the bus"
                : !VfioDrivers.IsVfio(driver) ? $"{address} is on {driver ?? "no driver"}, not on a VFIO driver"
                : group is null ? $"{address} has no IOMMU group"
                : $"{address} is on {driver}, and {(groupNode is null ? SysfsPaths.GroupNode(group.Value) : Container)} is not there",
            NumaNode = Numa(files, address),
            PcieRoot = SysfsPaths.RootBus(link),
        };
    }

    private static int? Numa(IHostFileSystem files, PciAddress address) =>
        int.TryParse(
            files.ReadText($"{SysfsPaths.Device(address)}/numa_node"),
            NumberStyles.AllowLeadingSign,
            CultureInfo.InvariantCulture,
            out int node
        )
        && node >= 0
            ? node
            : null;
}
