namespace PciOperator.Host;

/// <summary>Why a host has no IOMMU to isolate devices with, and what to change. Pure.</summary>
internal static class IommuDiagnosis
{
    /// <summary>One sentence or two, for a host without IOMMU groups.</summary>
    /// <param name="boot">What the host booted with.</param>
    /// <param name="unsafeMode">VFIO was told to go without.</param>
    public static string WhyNot(BootFacts boot, bool unsafeMode)
    {
        if (unsafeMode)
            return "VFIO runs in its unsafe mode without an IOMMU, where a guest can write to all of the host's memory: remove enable_unsafe_noiommu_mode=1 from /etc/modprobe.d (or vfio.enable_unsafe_noiommu_mode=1 from the kernel command line), turn the IOMMU on and reboot.";
        KernelCommandLine line = boot.CommandLine;
        if (line.Last("intel_iommu", "on", "off") == "off" && boot.Cpu is not (CpuMaker.Amd or CpuMaker.Arm))
            return $"The kernel command line turns the IOMMU off: {BootLoader.Change("replace", "intel_iommu=off by intel_iommu=on in")}.";
        if (line.Values("amd_iommu").Contains("off") && boot.Cpu is not (CpuMaker.Intel or CpuMaker.Arm))
            return $"The kernel command line turns the IOMMU off: {BootLoader.Remove("amd_iommu=off")}.";
        if (line.Last("iommu", "off", "force") == "off" && boot.Cpu != CpuMaker.Arm)
            return $"The kernel command line turns the IOMMU off: {BootLoader.Remove("iommu=off")}.";
        if (boot.Dmar == true)
        {
            return line.Last("intel_iommu", "on", "off") == "on"
                ? "The kernel was booted with intel_iommu=on and has an Intel IOMMU, and yet makes no IOMMU groups: it says why in its log (dmesg | grep -e DMAR -e IOMMU); often a new BIOS mends its tables."
                : $"VT-d is on in the firmware and the kernel doesn't use it: {BootLoader.Add("intel_iommu=on")}.";
        }

        if (boot.Ivrs == true)
            return "AMD-Vi is on in the firmware and the kernel doesn't use it: it says why in its log (dmesg | grep AMD-Vi); often a new BIOS mends its tables. AMD needs no parameter on the kernel command line.";
        if (boot.Cpu == CpuMaker.Arm)
            return "The kernel found no IOMMU: enable the SMMU in the firmware (an IORT table or a device tree names it), and remove iommu.passthrough=1 and arm-smmu.disable_bypass=0 from the kernel command line if they are there.";
        if (boot.Virtual)
            return $"This host is itself a virtual machine without an IOMMU: give it one (libvirt: <iommu model='intel'> with <driver intremap='on' caching_mode='on'/>; QEMU: -device intel-iommu,intremap=on,caching-mode=on){(boot.Cpu == CpuMaker.Amd ? "" : $", then {BootLoader.Add("intel_iommu=on")}")}.";
        string seen = boot.Dmar is null ? "is likely off" : "is off";
        return boot.Cpu switch
        {
            CpuMaker.Intel =>
                $"VT-d {seen} in the firmware ({Tables(boot, "DMAR")}): enable Intel VT for Directed I/O (VT-d) in the BIOS; then, unless that is enough, {BootLoader.Add("intel_iommu=on")}.",
            CpuMaker.Amd =>
                $"AMD-Vi {seen} in the firmware ({Tables(boot, "IVRS")}): enable IOMMU (AMD-Vi) in the BIOS and reboot. AMD needs no parameter on the kernel command line.",
            _ =>
                $"The firmware offers no IOMMU: enable VT-d (Intel) or AMD-Vi/IOMMU (AMD) in the BIOS; on Intel also {BootLoader.Add("intel_iommu=on")}.",
        };
    }

    private static string Tables(BootFacts boot, string name) =>
        boot.Dmar is null ? "its tables can't be seen from here" : $"it has no ACPI table {name}";
}

/// <summary>How a person changes what the kernel is booted with.</summary>
internal static class BootLoader
{
    private const string Regenerate = "run update-grub (Debian, Ubuntu) or grub2-mkconfig -o /boot/grub2/grub.cfg (RHEL, SUSE), and reboot";

    public static string Add(string parameter) => Change("add", $"{parameter} to");

    public static string Remove(string parameter) => Change("remove", $"{parameter} from");

    public static string Change(string verb, string what) => $"{verb} {what} GRUB_CMDLINE_LINUX in /etc/default/grub, {Regenerate}";
}
