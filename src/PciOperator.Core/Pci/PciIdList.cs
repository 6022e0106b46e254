using System.Globalization;
using System.Text;

namespace PciOperator.Core;

/// <summary>The PCI ID list (pci.ids), as far as names of vendors and devices go.</summary>
public static class PciIdList
{
    /// <summary>
    /// "Intel Corporation 82576 Gigabit Network Connection" for each pair; vendor and number where only the vendor is known; pairs of unknown
    /// vendors are absent.
    /// </summary>
    /// <param name="file">Lines "8086  Intel Corporation" and, under them, "\t10c9  82576 …"; "C xx" begins the classes at the end.</param>
    /// <param name="wanted">The pairs.</param>
    public static IReadOnlyDictionary<(PciId Vendor, PciId Device), string> Find(
        ReadOnlySpan<byte> file,
        IReadOnlySet<(PciId Vendor, PciId Device)> wanted
    )
    {
        ArgumentNullException.ThrowIfNull(wanted);
        var found = new Dictionary<(PciId, PciId), string>();
        ILookup<PciId, PciId> devices = wanted.ToLookup(pair => pair.Vendor, pair => pair.Device);
        PciId vendor = default;
        string? vendorName = null;
        foreach (Range range in file.Split((byte)'\n'))
        {
            ReadOnlySpan<byte> line = file[range];
            if (line.Length < 6 || line[0] == '#')
                continue;
            if (line[0] == 'C' && line[1] == ' ')
                break;
            if (line[0] != '\t')
            {
                vendorName = null;
                if (TryId(line[..4], out vendor) && devices.Contains(vendor))
                {
                    vendorName = Encoding.UTF8.GetString(line[4..]).Trim();
                    foreach (PciId unnamed in devices[vendor])
                        found[(vendor, unnamed)] = $"{vendorName} {unnamed}";
                }
            }
            else if (vendorName is not null && line[1] != '\t' && TryId(line[1..5], out PciId device) && wanted.Contains((vendor, device)))
            {
                found[(vendor, device)] = $"{vendorName} {Encoding.UTF8.GetString(line[5..]).Trim()}";
            }
        }

        return found;
    }

    private static bool TryId(ReadOnlySpan<byte> digits, out PciId id)
    {
        bool ok = ushort.TryParse(digits, NumberStyles.AllowHexSpecifier, null, out ushort value);
        id = new PciId(value);
        return ok;
    }
}
