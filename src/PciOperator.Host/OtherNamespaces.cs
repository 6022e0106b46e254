using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// What other network namespaces have of a device: one of its interfaces, or a macvlan, ipvlan or VLAN that stands on one. Neither is to be
/// seen from the host's. Each namespace is looked at through the sysfs of a process in it.
/// </summary>
internal sealed class OtherNamespaces(IHostFileSystem files)
{
    /// <summary>A sentence for the first that is found; null when none is.</summary>
    /// <param name="functions">The functions that nobody may have.</param>
    public string? FindUser(IReadOnlyCollection<PciAddress> functions)
    {
        string? own = files.ReadLink("/proc/1/ns/net");
        var seen = new HashSet<string>(StringComparer.Ordinal);
        Dictionary<string, string>? here = null;
        Dictionary<int, string>? lowers = null;
        foreach (string pid in files.List("/proc"))
        {
            if (!char.IsAsciiDigit(pid[0]) || Link($"/proc/{pid}/ns/net") is not { } space || space == own || seen.Contains(space)
                || !seen.Add($"{space} {Link($"/proc/{pid}/ns/mnt")}"))
                continue;
            string folder = $"/proc/{pid}/root/sys/class/net";
            IReadOnlyList<string> names = Names(folder);
            if (names.Count == 0)
                continue;
            here ??= files.List("/sys/class/net").ToDictionary(n => n, n => files.ReadLink($"/sys/class/net/{n}") ?? "", StringComparer.Ordinal);
            Dictionary<string, string> there = names.ToDictionary(n => n, n => Link($"{folder}/{n}") ?? "", StringComparer.Ordinal);

            // An interface on a PCI function is in one namespace only: who shows one of ours shows our namespace, with the host's sysfs.
            if (there.Any(t => SysfsPaths.FunctionsOn(t.Value).Count > 0 && here.TryGetValue(t.Key, out string? path) && path == t.Value))
                continue;
            seen.Add(space);
            lowers ??= Lowers(functions, here);
            foreach ((string name, string path) in there)
            {
                if (SysfsPaths.FunctionsOn(path).FirstOrDefault(functions.Contains) is var function && functions.Contains(function))
                    return $"{function} has the interface {name} in the network namespace of process {pid} ({Text($"/proc/{pid}/comm") ?? "gone"}): end what runs there.";
                if (IsStackable($"{folder}/{name}") && Inventory.Number(Text($"{folder}/{name}/iflink")) is { } below
                    && lowers.TryGetValue(below, out string? lower) && Inventory.Number(Text($"{folder}/{name}/ifindex")) != below)
                    return $"{lower} carries the interface {name} of process {pid} ({Text($"/proc/{pid}/comm") ?? "gone"}) in another network namespace: end what runs there.";
            }
        }

        return null;
    }

    /// <summary>The interfaces of the functions by number: "0000:21:00.0 is the host's interface ens1, which".</summary>
    private Dictionary<int, string> Lowers(IReadOnlyCollection<PciAddress> functions, Dictionary<string, string> here)
    {
        var found = new Dictionary<int, string>();
        foreach ((string name, string path) in here)
        {
            if (SysfsPaths.FunctionsOn(path).FirstOrDefault(functions.Contains) is var function && functions.Contains(function)
                && Inventory.Number(files.ReadText($"/sys/class/net/{name}/ifindex")) is { } index)
                found[index] = $"{function} is the host's interface {name}, which";
        }

        return found;
    }

    /// <summary>What stands on an interface of another namespace says so; a veth's other end has a number there, too.</summary>
    private bool IsStackable(string folder) =>
        Text($"{folder}/uevent")?.Split('\n').Any(line => line is "DEVTYPE=macvlan" or "DEVTYPE=ipvlan" or "DEVTYPE=vlan" or "DEVTYPE=macvtap" or "DEVTYPE=ipvtap") == true;

    private IReadOnlyList<string> Names(string folder)
    {
        try
        {
            return files.List(folder);
        }
        catch (HostIoException)
        {
            // A process with a root of its own making; another of the same namespace may do.
            return [];
        }
    }

    private string? Link(string path)
    {
        try
        {
            return files.ReadLink(path);
        }
        catch (HostIoException)
        {
            return null;
        }
    }

    private string? Text(string path)
    {
        try
        {
            return files.ReadText(path);
        }
        catch (HostIoException)
        {
            return null;
        }
    }
}
