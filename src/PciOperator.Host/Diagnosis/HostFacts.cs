using System.Globalization;

namespace PciOperator.Host;

/// <summary>Facts of the host that explain why devices can or can't be handed out.</summary>
internal static class HostFacts
{
    private const int LargestModuleList = 32 << 20;

    /// <summary>Another one after each boot.</summary>
    public static string BootId(IHostFileSystem files) => files.ReadText("/proc/sys/kernel/random/boot_id")?.Trim() ?? "";

    /// <summary>As uname -r.</summary>
    public static string KernelVersion(IHostFileSystem files) => files.ReadText("/proc/sys/kernel/osrelease")?.Trim() ?? "";

    /// <summary>
    /// The socket of each NUMA node that has CPUs: no guest's CPUs can be on one without (memory of an accelerator or of CXL).
    /// </summary>
    public static IReadOnlyDictionary<int, int?> NumaNodes(IHostFileSystem files)
    {
        var sockets = new SortedDictionary<int, int?>();
        foreach (string name in BootFacts.Optional(() => files.List("/sys/devices/system/node")) ?? [])
        {
            if (
                name.StartsWith("node", StringComparison.Ordinal)
                && int.TryParse(name.AsSpan(4), NumberStyles.None, CultureInfo.InvariantCulture, out int node)
                && FirstCpu(files, node) is not null
            )
            {
                sockets[node] = SocketOf(files, node);
            }
        }

        return sockets;
    }

    /// <summary>The CPU socket of a NUMA node; null when the host doesn't know: a kernel without that knowledge says package -1.</summary>
    public static int? SocketOf(IHostFileSystem files, int node) =>
        FirstCpu(files, node) is { } cpu
        && int.TryParse(
            BootFacts.Optional(() => files.ReadText($"/sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"))?.Trim(),
            NumberStyles.None,
            CultureInfo.InvariantCulture,
            out int socket
        )
            ? socket
            : null;

    private static int? FirstCpu(IHostFileSystem files, int node)
    {
        string? cpus = BootFacts.Optional(() => files.ReadText($"/sys/devices/system/node/node{node}/cpulist"))?.Trim();
        int end = cpus?.AsSpan().IndexOfAny(',', '-') ?? -1;
        return int.TryParse(end < 0 ? cpus : cpus![..end], NumberStyles.None, CultureInfo.InvariantCulture, out int first) ? first : null;
    }

    /// <param name="files">The host.</param>
    /// <param name="boot">What it booted with, when that is known already.</param>
    public static IommuFacts Iommu(IHostFileSystem files, BootFacts? boot = null)
    {
        bool unsafeMode = files.ReadText("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") is "Y" or "1";
        int groups = files.List(SysfsPaths.IommuGroups).Count;
        if (groups > 0 && !unsafeMode)
            return new IommuFacts { Enabled = true, Groups = groups };
        return new IommuFacts
        {
            Enabled = false,
            Groups = groups,
            WhyNot = IommuDiagnosis.WhyNot(boot ?? BootFacts.Read(files), unsafeMode),
        };
    }

    /// <param name="files">The host.</param>
    /// <param name="loadable">Whether modprobe would find vfio-pci, when that is known already.</param>
    public static VfioFacts Vfio(IHostFileSystem files, bool? loadable = null)
    {
        bool loaded = files.Exists(SysfsPaths.Driver(VfioDrivers.VfioPci));
        bool found = loaded || (loadable ?? IsLoadable(files));
        return new VfioFacts
        {
            Loaded = loaded,
            Loadable = found,
            ControlNode = files.Exists("/dev/vfio/vfio"),
            Iommufd = files.Exists("/dev/iommu"),
            WhyNot = found
                ? null
                : $"The kernel {KernelVersion(files)} has no vfio-pci: install the package with its modules (linux-modules-extra-{KernelVersion(files)} on Ubuntu, kernel-modules on RHEL).",
        };
    }

    /// <summary>
    /// Whether vfio-pci's denylist is off (its parameter disable_denylist); null when that isn't said. What the loaded module says
    /// counts, else what it will be loaded with.
    /// </summary>
    public static bool? DenylistIsOff(IHostFileSystem files, BootFacts boot) =>
        BootFacts.Optional(() => files.ReadText("/sys/module/vfio_pci/parameters/disable_denylist"))?.Trim() switch
        {
            "Y" or "1" => true,
            "N" or "0" => false,
            _ => boot.DenylistOff ? true : null,
        };

    /// <summary>
    /// A loaded driver's module and its settings, as far as they decide what it binds: another build, or another parameter, is another
    /// driver. Empty: it isn't loaded now, or is built in.
    /// </summary>
    public static string DriverSetting(IHostFileSystem files, string driver)
    {
        string module = $"/sys/module/{driver.Replace('-', '_')}";
        return string.Join(
            ' ',
            ((string[])["srcversion", "parameters/disable_denylist"])
                .Select(name => (Name: name, Text: BootFacts.Optional(() => files.ReadText($"{module}/{name}"))))
                .Where(f => f.Text is not null)
                .Select(f => $"{f.Name}={f.Text!.Trim()}")
        );
    }

    /// <summary>Whether modprobe would find vfio-pci (in a container the host's modules are under /proc/1/root).</summary>
    public static bool IsLoadable(IHostFileSystem files)
    {
        string kernel = KernelVersion(files);
        foreach (string root in (string[])["", "/proc/1/root"])
        {
            foreach (string list in (string[])["modules.dep", "modules.builtin"])
            {
                try
                {
                    if (
                        files.ReadBytes($"{root}/lib/modules/{kernel}/{list}", LargestModuleList) is { } content
                        && content.AsSpan().IndexOf("/vfio-pci.ko"u8) >= 0
                    )
                    {
                        return true;
                    }
                }
                catch (HostIoException)
                {
                    // Not to be seen from here: modprobe will say when it is needed.
                }
            }
        }

        return false;
    }
}
