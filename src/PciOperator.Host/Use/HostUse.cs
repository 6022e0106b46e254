using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>How the host uses its devices, read once for a whole scan: facts that the guards judge.</summary>
internal sealed class HostUse
{
    /// <summary>The initial PID namespace's inode number is a constant of the kernel's (PROC_PID_INIT_INO, linux/proc_ns.h).</summary>
    private const string InitialPidNamespace = "pid:[4026531836]";

    private Dictionary<PciAddress, List<NetInterface>> _interfaces = [];
    private Dictionary<PciAddress, List<Disk>> _disks = [];
    private Dictionary<PciAddress, string> _consoles = [];
    private Dictionary<PciAddress, string> _mediated = [];
    private IReadOnlyDictionary<PciAddress, string> _served = new Dictionary<PciAddress, string>();
    private Dictionary<PciAddress, ServedMount> _mounted = [];

    private HostUse() { }

    /// <summary>Why nothing may be taken at all: what PID 1 uses can't be seen from here. Null when all was read.</summary>
    public string? Blindness { get; private set; }

    /// <summary>VFIO was told to go without an IOMMU: groups may mean nothing.</summary>
    public bool UnsafeNoIommu { get; private set; }

    /// <summary>Network interfaces on a function (also through virtio or USB, or behind a controller such as Intel's VMD).</summary>
    public IReadOnlyList<NetInterface> InterfacesOf(PciAddress address) => _interfaces.GetValueOrDefault(address) ?? [];

    /// <summary>Block devices and partitions on a function.</summary>
    public IReadOnlyList<Disk> DisksOf(PciAddress address) => _disks.GetValueOrDefault(address) ?? [];

    /// <summary>"the framebuffer fb0 of the host's text console"; null when the function carries no console.</summary>
    public string? ConsoleOf(PciAddress address) => _consoles.GetValueOrDefault(address);

    /// <summary>"is port 1 of the host's NVMe target: …"; null when the kernel serves nobody through the function.</summary>
    public string? ServedBy(PciAddress address) => _served.GetValueOrDefault(address);

    /// <summary>A file system that the function itself serves and the host has mounted; null when none.</summary>
    public ServedMount? MountOf(PciAddress address) => _mounted.GetValueOrDefault(address);

    /// <summary>The host runs from what is mounted of the function, or its kubelet or container runtime does.</summary>
    public bool IsVitalMount(PciAddress address) =>
        MountOf(address) is { IsVital: true } || DisksOf(address).Any(d => d is { IsVital: true, Mounted: not null });

    /// <summary>A vGPU that was made on the function, and what removes it; null when none.</summary>
    public string? MediatedDeviceOf(PciAddress address) => _mediated.GetValueOrDefault(address);

    /// <summary>The function's own interface (of several, the one nearest to it, then by name).</summary>
    public string? InterfaceOf(PciAddress address) =>
        InterfacesOf(address) switch
        {
            [] => null,
            [var only] => only.Name,
            var several => several.OrderBy(i => i.Path.Length - i.Name.Length).ThenBy(i => i.Name, StringComparer.Ordinal).First().Name,
        };

    /// <summary>Reads it; what can't be read makes <see cref="Blindness"/>.</summary>
    public static HostUse Read(IHostFileSystem files)
    {
        var use = new HostUse();
        try
        {
            use.Blindness = CompareWithPid1(files);
            use._interfaces = HostInterfaces.Read(files);
            var mounts = HostMounts.Read(files);
            var ports = FibreChannel.Read(files);
            var exports = KernelExports.Read(files, mounts, ports);
            use._disks = HostDisks.Read(files, mounts, exports.Devices, ports.Controllers(files));
            use._served = exports.Functions;
            use._mounted = VirtioMounts.Read(files, mounts);
            use._consoles = HostConsoles.Read(files);
            use._mediated = MediatedDevices(files);
            use.UnsafeNoIommu = files.ReadText("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") is "Y" or "1";
        }
        catch (HostIoException e)
        {
            use.Blindness ??= $"The host's use of its devices can't be seen: {e.Message}";
        }

        return use;
    }

    /// <summary>The agent must have the host's own network and PID namespaces: otherwise it sees less than the host uses.</summary>
    private static string? CompareWithPid1(IHostFileSystem files)
    {
        if (files.ReadLink("/proc/self") == "1")
            return "The agent is PID 1 of its own PID namespace and can't see the host's processes: run it with hostPID: true.";
        foreach ((string space, string setting) in new[] { ("net", "hostNetwork"), ("pid", "hostPID") })
        {
            string? host = files.ReadLink($"/proc/1/ns/{space}");
            if (host is null || files.ReadLink($"/proc/self/ns/{space}") != host)
                return $"The agent's {space} namespace isn't PID 1's, so it can't see what the host uses: run it with {setting}: true.";
            if (space == "pid" && host != InitialPidNamespace)
                return "PID 1 here is a container's first process and not the host's, so the agent can't see what the host uses: run it with hostPID: true, on a node that isn't itself a container.";
        }

        return null;
    }

    private static Dictionary<PciAddress, string> MediatedDevices(IHostFileSystem files)
    {
        var found = new Dictionary<PciAddress, string>();
        foreach (string name in files.List("/sys/bus/mdev/devices"))
        {
            foreach (PciAddress address in SysfsPaths.FunctionsOn(files.ReadLink($"/sys/bus/mdev/devices/{name}") ?? ""))
            {
                found.TryAdd(
                    address,
                    $"the mediated device {name} (a vGPU): remove it first (echo 1 > /sys/bus/mdev/devices/{name}/remove)"
                );
            }
        }

        // Newer drivers make a vGPU of a VF without a mediated device (vfio-pci-core instead of mdev, since Linux 6.8).
        foreach (string driver in (string[])["nvidia", "nvidia-vgpu-vfio"])
        {
            foreach (string name in files.List(SysfsPaths.Driver(driver)))
            {
                if (
                    PciAddress.TryParse(name, out PciAddress address)
                    && files.ReadText($"{SysfsPaths.Device(address)}/nvidia/current_vgpu_type")?.Trim() is { Length: > 0 } type
                    && type != "0"
                )
                {
                    found.TryAdd(
                        address,
                        $"a vGPU of type {type}: remove it first (echo 0 > {SysfsPaths.Device(address)}/nvidia/current_vgpu_type)"
                    );
                }
            }
        }

        return found;
    }

    internal static IEnumerable<string[]> Lines(string text) =>
        text.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(line => line.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries));

    internal static void Add<T>(Dictionary<PciAddress, List<T>> map, PciAddress address, T value)
    {
        if (!map.TryGetValue(address, out List<T>? list))
            map[address] = list = [];
        list.Add(value);
    }
}
