using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// What other network namespaces have of a device: one of its interfaces, or a macvlan, ipvlan or VLAN that stands on one. Neither is to be
/// seen from the host's. Each namespace is looked at through the sysfs of a process in it.
/// </summary>
internal sealed class OtherNamespaces
{
    private readonly IHostFileSystem _files;

    // Of the host's own interfaces on PCI functions, by their numbers; only when another namespace has something that stands on one.
    private readonly Dictionary<int, (string Name, List<PciAddress> Functions)> _own = [];
    private readonly List<Interface> _found = [];

    private OtherNamespaces(IHostFileSystem files) => _files = files;

    /// <summary>Looks at all of them.</summary>
    public static OtherNamespaces Read(IHostFileSystem files)
    {
        var namespaces = new OtherNamespaces(files);
        namespaces.Read();
        return namespaces;
    }

    /// <summary>A sentence for the first that is found; null when none is.</summary>
    /// <param name="functions">The functions that nobody may have.</param>
    public string? FindUser(IReadOnlyCollection<PciAddress> functions)
    {
        foreach (Interface there in _found)
        {
            if (there.Functions.FirstOrDefault(functions.Contains) is var function && functions.Contains(function))
                return $"{function} has the interface {there.Name} in the network namespace of process {there.Process}: end what runs there.";
            if (
                there.Below is { } below
                && _own.TryGetValue(below, out (string Name, List<PciAddress> Functions) lower)
                && lower.Functions.FirstOrDefault(functions.Contains) is var carrier
                && functions.Contains(carrier)
            )
            {
                return $"{carrier} is the host's interface {lower.Name}, which carries the interface {there.Name} of process {there.Process} in another network namespace: end what runs there.";
            }
        }

        return null;
    }

    private void Read()
    {
        string? host = _files.ReadLink("/proc/1/ns/net");
        var seen = new HashSet<string>(StringComparer.Ordinal);
        Dictionary<string, string>? here = null;
        foreach (string pid in _files.List("/proc"))
        {
            if (!char.IsAsciiDigit(pid[0]) || Link($"/proc/{pid}/ns/net") is not { } space || space == host || seen.Contains(space))
                continue;
            string view = $"{space} {Link($"/proc/{pid}/ns/mnt")}";
            if (seen.Contains(view))
                continue;
            string folder = $"/proc/{pid}/root/sys/class/net";
            IReadOnlyList<string> names = Names(folder);
            // Nothing was seen, perhaps since it just ended: another process in the same namespaces may show them.
            if (names.Count == 0)
                continue;
            seen.Add(view);
            here ??= _files
                .List("/sys/class/net")
                .ToDictionary(n => n, n => _files.ReadLink($"/sys/class/net/{n}") ?? "", StringComparer.Ordinal);
            var there = names.ToDictionary(n => n, n => Link($"{folder}/{n}") ?? "", StringComparer.Ordinal);

            // An interface on a PCI function is in one namespace only: who shows one of ours shows our namespace, with the host's sysfs.
            if (there.Any(t => SysfsPaths.FunctionsOn(t.Value).Count > 0 && here.TryGetValue(t.Key, out string? path) && path == t.Value))
                continue;
            seen.Add(space);
            foreach ((string name, string path) in there)
            {
                List<PciAddress> functions = SysfsPaths.FunctionsOn(path);
                int? below =
                    IsStackable($"{folder}/{name}")
                    && Inventory.Number(Text($"{folder}/{name}/iflink")) is { } lower
                    && Inventory.Number(Text($"{folder}/{name}/ifindex")) != lower
                        ? lower
                        : null;
                if (functions.Count > 0 || below is not null)
                    _found.Add(new Interface(name, $"{pid} ({Text($"/proc/{pid}/comm") ?? "gone"})", functions, below));
            }
        }

        if (_found.Any(f => f.Below is not null))
            ReadOwn(here!);
    }

    private void ReadOwn(Dictionary<string, string> here)
    {
        foreach ((string name, string path) in here)
        {
            List<PciAddress> functions = SysfsPaths.FunctionsOn(path);
            if (functions.Count > 0 && Inventory.Number(_files.ReadText($"/sys/class/net/{name}/ifindex")) is { } index)
                _own[index] = (name, functions);
        }
    }

    /// <summary>What stands on an interface of another namespace says so; a veth's other end has a number there, too.</summary>
    private bool IsStackable(string folder) =>
        Text($"{folder}/uevent")
            ?.Split('\n')
            .Any(line => line is "DEVTYPE=macvlan" or "DEVTYPE=ipvlan" or "DEVTYPE=vlan" or "DEVTYPE=macvtap" or "DEVTYPE=ipvtap") == true;

    private IReadOnlyList<string> Names(string folder)
    {
        try
        {
            return _files.List(folder);
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
            return _files.ReadLink(path);
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
            return _files.ReadText(path);
        }
        catch (HostIoException)
        {
            return null;
        }
    }

    /// <param name="Name">"eth0".</param>
    /// <param name="Process">"4242 (nginx)": one of those that are in its namespace.</param>
    /// <param name="Functions">The functions that it is on.</param>
    /// <param name="Below">The number of the host's interface that it stands on; null: it stands on none.</param>
    private sealed record Interface(string Name, string Process, List<PciAddress> Functions, int? Below);
}
