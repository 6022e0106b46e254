using System.Globalization;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>The functions that uevents concern, with whatever may have changed along with them: all that has to be read again.</summary>
/// <param name="Touched">Functions to read again.</param>
/// <param name="Replaced">Those of them that came or went: another card may be at the address.</param>
internal sealed record ScanScope(HashSet<PciAddress> Touched, HashSet<PciAddress> Replaced)
{
    private const string VfioGroups = "/devices/virtual/vfio/";

    /// <summary>Null: everything has to be read again.</summary>
    /// <param name="heard">What the kernel said since <paramref name="last"/> was read.</param>
    /// <param name="last">All functions as they were read last.</param>
    public static ScanScope? Of(IReadOnlyCollection<Uevent> heard, IReadOnlyList<HostFunction> last)
    {
        var named = new HashSet<PciAddress>();
        var replaced = new HashSet<PciAddress>();
        var groups = new HashSet<int>();
        foreach (Uevent uevent in heard)
        {
            if (uevent.Overrun)
                return null;
            if (
                uevent.DevPath.StartsWith(VfioGroups, StringComparison.Ordinal)
                && int.TryParse(uevent.DevPath.AsSpan(VfioGroups.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int group)
            )
            {
                groups.Add(group);
            }

            // The function itself, or what the interface, the disk, … at the path's end sits on: also those further up, behind which it may
            // be (VMD).
            List<PciAddress> path = SysfsPaths.FunctionsOn(uevent.DevPath);
            if (uevent.Subsystem == "pci")
                path = [.. path.TakeLast(1)];
            if (PciAddress.TryParse(uevent.PciSlotName, out PciAddress slot))
                path.Add(slot);
            named.UnionWith(path);
            if (uevent is { Subsystem: "pci", Action: not ("bind" or "unbind" or "change") })
                replaced.UnionWith(path);
        }

        // A PF and its VFs change together, and so do the members of an IOMMU group.
        var touched = new HashSet<PciAddress>(named);
        foreach (HostFunction f in last)
        {
            if (!named.Contains(f.Address))
                continue;
            if (f.Function.ParentAddress is { } pf)
                touched.Add(pf);
            if (f.Function.IommuGroup is { } group && !f.Function.IsBridge)
                groups.Add(group);
        }

        foreach (HostFunction f in last)
        {
            if (
                (f.Function.ParentAddress is { } pf && named.Contains(pf)) || (f.Function.IommuGroup is { } group && groups.Contains(group))
            )
            {
                touched.Add(f.Address);
            }
        }

        return new ScanScope(touched, replaced);
    }
}
