using System.Text;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Names of vendors and devices from the host's pci.ids. Only the entries that were asked for are kept; the file is read
/// again only for ids not seen before.
/// </summary>
internal sealed class PciNames(IHostFileSystem files)
{
    private const int LargestFile = 16 << 20;

    // In a container the host's own files are under the root of its first process.
    private static readonly string[] Places =
    [
        "/usr/share/misc/pci.ids",
        "/usr/share/hwdata/pci.ids",
        "/proc/1/root/usr/share/misc/pci.ids",
        "/proc/1/root/usr/share/hwdata/pci.ids",
    ];

    private readonly Dictionary<(PciId Vendor, PciId Device), string?> _known = [];
    private readonly Lock _gate = new();

    /// <summary>"Intel Corporation 82576 Gigabit Network Connection" for each pair; pairs that pci.ids doesn't have are absent.</summary>
    public IReadOnlyDictionary<(PciId Vendor, PciId Device), string> Find(IEnumerable<(PciId Vendor, PciId Device)> wanted)
    {
        var all = wanted.ToHashSet();
        lock (_gate)
        {
            var missing = all.Where(pair => !_known.ContainsKey(pair)).ToHashSet();
            if (missing.Count > 0)
                Load(missing);
            return all.Where(pair => _known[pair] is not null).ToDictionary(pair => pair, pair => _known[pair]!);
        }
    }

    private void Load(HashSet<(PciId Vendor, PciId Device)> missing)
    {
        foreach ((PciId, PciId) pair in missing)
            _known[pair] = null;
        byte[]? file = null;
        foreach (string place in Places)
        {
            try
            {
                file ??= files.ReadBytes(place, LargestFile);
            }
            catch (HostIoException)
            {
                // Names are a courtesy: without them ids are shown.
            }
        }

        if (file is not null)
            Parse(file, missing);
    }

    /// <summary>Lines "8086  Intel Corporation" and, under them, "\t10c9  82576 …"; "C xx" begins the classes at the end.</summary>
    private void Parse(ReadOnlySpan<byte> file, HashSet<(PciId Vendor, PciId Device)> missing)
    {
        HashSet<PciId> vendors = [.. missing.Select(pair => pair.Vendor)];
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
                if (TryId(line[..4], out vendor) && vendors.Contains(vendor))
                {
                    vendorName = Encoding.UTF8.GetString(line[4..]).Trim();
                    foreach ((PciId Vendor, PciId Device) pair in missing.Where(pair => pair.Vendor == vendor))
                        _known[pair] = $"{vendorName} {pair.Device}";
                }
            }
            else if (vendorName is not null && line[1] != '\t' && TryId(line[1..5], out PciId device) && missing.Contains((vendor, device)))
            {
                _known[(vendor, device)] = $"{vendorName} {Encoding.UTF8.GetString(line[5..]).Trim()}";
            }
        }
    }

    private static bool TryId(ReadOnlySpan<byte> digits, out PciId id)
    {
        bool ok = ushort.TryParse(digits, System.Globalization.NumberStyles.AllowHexSpecifier, null, out ushort value);
        id = new PciId(value);
        return ok;
    }
}
