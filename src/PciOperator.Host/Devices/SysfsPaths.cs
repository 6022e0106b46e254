using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>Where Linux keeps what this project reads and writes (Documentation/ABI/testing/sysfs-bus-pci).</summary>
internal static class SysfsPaths
{
    public const string Devices = "/sys/bus/pci/devices";
    public const string DriversProbe = "/sys/bus/pci/drivers_probe";
    public const string IommuGroups = "/sys/kernel/iommu_groups";
    private static readonly System.Buffers.SearchValues<char> HexDigits = System.Buffers.SearchValues.Create("0123456789abcdef");

    public static string Device(PciAddress address) => $"{Devices}/{address}";

    public static string Driver(string name) => $"/sys/bus/pci/drivers/{name}";

    public static string GroupNode(int group) => $"/dev/vfio/{group}";

    /// <summary>The last name of a link's target; null for null.</summary>
    public static string? LastName(string? target) => target is null ? null : target[(target.LastIndexOf('/') + 1)..];

    /// <summary>
    /// The root bus that a device's link target goes through, such as "pci0000:64": the first of them, as DRA drivers name it (behind VMD
    /// there are two). Null: none.
    /// </summary>
    public static string? RootBus(string? link)
    {
        foreach (Range range in link.AsSpan().Split('/'))
        {
            ReadOnlySpan<char> part = link.AsSpan(range);
            if (
                part.Length is >= 10 and <= 14
                && part.StartsWith("pci")
                && part[^3] == ':'
                && !part[3..^3].ContainsAnyExcept(HexDigits)
                && !part[^2..].ContainsAnyExcept(HexDigits)
            )
            {
                return part.ToString();
            }
        }

        return null;
    }

    /// <summary>
    /// The PCI functions that a path under /sys/devices goes through, outermost first: the last one is what the device
    /// at the path's end sits on (also through virtio, USB, ATA, NVMe, …).
    /// </summary>
    public static List<PciAddress> FunctionsOn(string path)
    {
        var functions = new List<PciAddress>();
        foreach (Range range in path.AsSpan().Split('/'))
        {
            if (PciAddress.TryParse(path.AsSpan(range), null, out PciAddress address))
                functions.Add(address);
        }

        return functions;
    }
}
