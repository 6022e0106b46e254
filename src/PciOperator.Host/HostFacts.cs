namespace PciOperator.Host;

/// <summary>Facts of the host that explain why devices can or can't be handed out.</summary>
internal static class HostFacts
{
    private const int LargestModuleList = 32 << 20;

    /// <summary>Another one after each boot.</summary>
    public static string BootId(IHostFileSystem files) => files.ReadText("/proc/sys/kernel/random/boot_id")?.Trim() ?? "";

    /// <summary>As uname -r.</summary>
    public static string KernelVersion(IHostFileSystem files) => files.ReadText("/proc/sys/kernel/osrelease")?.Trim() ?? "";

    public static IommuFacts Iommu(IHostFileSystem files)
    {
        bool unsafeMode = files.ReadText("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") is "Y" or "1";
        int groups = files.List(SysfsPaths.IommuGroups).Count;
        if (groups > 0 && !unsafeMode)
            return new IommuFacts { Enabled = true, Groups = groups };
        return new IommuFacts { Enabled = false, Groups = groups, WhyNot = WhyNoIommu(files, unsafeMode) };
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
            WhyNot = found ? null : $"The kernel {KernelVersion(files)} has no vfio-pci: install the package with its modules.",
        };
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
                    if (files.ReadBytes($"{root}/lib/modules/{kernel}/{list}", LargestModuleList) is { } content
                        && content.AsSpan().IndexOf("/vfio-pci.ko"u8) >= 0)
                        return true;
                }
                catch (HostIoException)
                {
                    // Not to be seen from here: modprobe will say when it is needed.
                }
            }
        }

        return false;
    }

    private static string WhyNoIommu(IHostFileSystem files, bool unsafeMode)
    {
        if (unsafeMode)
            return "VFIO runs in its unsafe mode without an IOMMU (enable_unsafe_noiommu_mode): turn that mode off and the IOMMU on.";
        bool intel = files.Exists("/sys/firmware/acpi/tables/DMAR");
        bool amd = files.Exists("/sys/firmware/acpi/tables/IVRS");
        string commandLine = files.ReadText("/proc/cmdline") ?? "";
        if (!intel && !amd)
            return "The firmware offers no IOMMU: enable VT-d (Intel) or AMD-Vi/IOMMU (AMD) in the BIOS, and boot with intel_iommu=on on Intel.";
        if (commandLine.Contains("iommu=off", StringComparison.Ordinal))
            return $"The kernel command line turns the IOMMU off: remove {(commandLine.Contains("intel_iommu=off", StringComparison.Ordinal) ? "intel_iommu=off" : "iommu=off")}, regenerate the boot loader's configuration and reboot.";
        return intel
            ? "The firmware has an Intel IOMMU and the kernel doesn't use it: add intel_iommu=on to the kernel command line, regenerate the boot loader's configuration and reboot."
            : "The firmware has an AMD IOMMU and the kernel doesn't use it: look for AMD-Vi in the kernel log (dmesg).";
    }
}
