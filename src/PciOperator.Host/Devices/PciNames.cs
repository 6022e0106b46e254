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

        if (file is null)
            return;
        foreach (((PciId, PciId) pair, string name) in PciIdList.Find(file, missing))
            _known[pair] = name;
    }
}
