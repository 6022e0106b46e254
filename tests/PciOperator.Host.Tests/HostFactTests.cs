using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>What a host's conditions say, and what to change.</summary>
public class HostFactTests
{
    private const string Grub =
        "GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub (Debian, Ubuntu) or grub2-mkconfig -o /boot/grub2/grub.cfg (RHEL, SUSE), and reboot";

    [Theory]
    [InlineData(
        "GenuineIntel",
        true,
        "root=/dev/sda1",
        $"VT-d is on in the firmware and the kernel doesn't use it: add intel_iommu=on to {Grub}."
    )]
    [InlineData(
        "GenuineIntel",
        true,
        "intel_iommu=on intel_iommu=off",
        $"The kernel command line turns the IOMMU off: replace intel_iommu=off by intel_iommu=on in {Grub}."
    )]
    [InlineData(
        "GenuineIntel",
        true,
        "intel_iommu=sm_on",
        $"VT-d is on in the firmware and the kernel doesn't use it: add intel_iommu=on to {Grub}."
    )]
    [InlineData(
        "GenuineIntel",
        true,
        "intel_iommu=on iommu=off",
        $"The kernel command line turns the IOMMU off: remove iommu=off from {Grub}."
    )]
    [InlineData(
        "GenuineIntel",
        true,
        "quiet -- intel_iommu=off",
        $"VT-d is on in the firmware and the kernel doesn't use it: add intel_iommu=on to {Grub}."
    )]
    [InlineData(
        "GenuineIntel",
        true,
        "intel_iommu=on,strict",
        "The kernel was booted with intel_iommu=on and has an Intel IOMMU, and yet makes no IOMMU groups: it says why in its log (dmesg | grep -e DMAR -e IOMMU); often a new BIOS mends its tables."
    )]
    [InlineData(
        "GenuineIntel",
        false,
        "quiet",
        $"VT-d is off in the firmware (it has no ACPI table DMAR): enable Intel VT for Directed I/O (VT-d) in the BIOS; then, unless that is enough, add intel_iommu=on to {Grub}."
    )]
    [InlineData(
        "AuthenticAMD",
        true,
        "quiet",
        "AMD-Vi is on in the firmware and the kernel doesn't use it: it says why in its log (dmesg | grep AMD-Vi); often a new BIOS mends its tables. AMD needs no parameter on the kernel command line."
    )]
    [InlineData("AuthenticAMD", true, "amd_iommu=off", $"The kernel command line turns the IOMMU off: remove amd_iommu=off from {Grub}.")]
    [InlineData(
        "AuthenticAMD",
        true,
        "intel_iommu=off",
        "AMD-Vi is on in the firmware and the kernel doesn't use it: it says why in its log (dmesg | grep AMD-Vi); often a new BIOS mends its tables. AMD needs no parameter on the kernel command line."
    )]
    [InlineData(
        "AuthenticAMD",
        false,
        "amd_iommu=on",
        "AMD-Vi is off in the firmware (it has no ACPI table IVRS): enable IOMMU (AMD-Vi) in the BIOS and reboot. AMD needs no parameter on the kernel command line."
    )]
    [InlineData(
        "Other",
        false,
        "quiet",
        $"The firmware offers no IOMMU: enable VT-d (Intel) or AMD-Vi/IOMMU (AMD) in the BIOS; on Intel also add intel_iommu=on to {Grub}."
    )]
    public void Without_an_IOMMU_the_host_says_why(string cpu, bool firmware, string commandLine, string says)
    {
        HostSnapshot seen = new Lab(LabHosts.Builder().Cpu(cpu).WithoutIommu(firmware, commandLine).Build()).Agent.Scan();
        Assert.Equal((false, says), (seen.Iommu.Enabled, seen.Iommu.WhyNot));
        Assert.DoesNotContain(seen.Facts, f => f.Type is "InterruptRemapping" or "IommuPassthroughMode");
    }

    [Theory]
    [InlineData("processor : 0\nCPU implementer : 0x41", "The kernel found no IOMMU: enable the SMMU in the firmware")]
    [InlineData(
        "vendor_id : GenuineIntel\nflags\t\t: fpu hypervisor lahf_lm",
        "This host is itself a virtual machine without an IOMMU: give it one (libvirt: <iommu model='intel'>"
    )]
    public void Other_machines_without_an_IOMMU_have_their_own_way(string cpuInfo, string says)
    {
        SimulatedHost host = LabHosts.Builder().WithoutIommu(firmware: false).File("/proc/cpuinfo", cpuInfo).Build();
        Assert.StartsWith(says, new Lab(host).Agent.Scan().Iommu.WhyNot, StringComparison.Ordinal);
    }

    [Fact]
    public void Firmware_tables_that_cannot_be_seen_are_not_said_to_be_missing()
    {
        SimulatedHost host = LabHosts.Builder().WithoutIommu(firmware: false).Build();
        host.Fault = a =>
        {
            if (a.Path == "/sys/firmware/acpi/tables")
                throw new HostIoException("list", a.Path, Errnos.EACCES);
        };
        Assert.StartsWith(
            "VT-d is likely off in the firmware (its tables can't be seen from here)",
            new Lab(host).Agent.Scan().Iommu.WhyNot,
            StringComparison.Ordinal
        );
    }

    [Fact]
    public void A_host_that_is_well_says_little()
    {
        Assert.Equal(
            [
                new HostFact(
                    "InterruptRemapping",
                    true,
                    "On",
                    "The IOMMU remaps interrupts: a guest's device can't send the host interrupts that it was not given."
                ),
                new HostFact(
                    "IommuPassthroughMode",
                    true,
                    "HostUntranslated",
                    "The host's own devices go round the IOMMU (iommu=pt): fastest for the host; guests' devices are isolated all the same."
                ),
            ],
            new Lab().Agent.Scan().Facts
        );
    }

    public static TheoryData<string, string, string, string> Files =>
        new()
        {
            {
                "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
                "Y\n",
                "InterruptRemapping=False UnsafeInterruptsAllowed",
                "vfio_iommu_type1 takes devices without interrupt remapping (allow_unsafe_interrupts=1), so that a guest can send the host any interrupt: remove the option from /etc/modprobe.d"
            },
            {
                "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
                "N\n",
                "InterruptRemapping=True On",
                "The IOMMU remaps interrupts"
            },
            {
                "/sys/kernel/irq/0/chip_name",
                "IO-APIC\n",
                "InterruptRemapping=False Off",
                "Interrupts aren't remapped, and VFIO gives no device to a guest without that"
            },
            { "/proc/cmdline", "intel_iommu=on", "IommuPassthroughMode=", "" },
            {
                "/proc/cmdline",
                "intel_iommu=on iommu=pt iommu=nopt",
                "IommuPassthroughMode=False HostTranslated",
                $"The host's own devices are translated by the IOMMU too: safest, slower for its fast NICs and NVMe. If that matters, add iommu=pt to {Grub}."
            },
            { "/proc/cmdline", "iommu.passthrough=1", "IommuPassthroughMode=True HostUntranslated", "" },
            {
                "/proc/cmdline",
                "pcie_acs_override=downstream,multifunction",
                "GroupsIsolated=False AcsOverride",
                $"The kernel was booted with pcie_acs_override=downstream,multifunction: where it has that patch it calls devices isolated that are not, and a guest's device may reach another guest's memory or the host's. Only for guests that trust each other; otherwise remove pcie_acs_override= from {Grub}."
            },
            {
                "/proc/cmdline",
                "vfio-pci.ids=10de:1e04,10de:10f7",
                "VfioBoundAtBoot=True VfioIds",
                "vfio-pci takes 10de:1e04,10de:10f7 (vfio-pci.ids= on the kernel command line) from boot on. Such devices are offered by a PciDeviceSpec with managed: false alone"
            },
            { "/proc/cmdline", "vfio_pci.ids=10de:1e04", "VfioBoundAtBoot=True VfioIds", "vfio-pci takes 10de:1e04 (vfio-pci.ids= on" },
            {
                "/etc/modprobe.d/vfio.conf",
                "# mine\noptions vfio-pci disable_vga=1 ids=10de:1e04\n",
                "VfioBoundAtBoot=True VfioIds",
                "vfio-pci takes 10de:1e04 (the options of vfio-pci in /etc/modprobe.d/vfio.conf) from boot on"
            },
            {
                "/proc/1/root/etc/modprobe.d/vfio.conf",
                "options vfio_pci ids=10de:1e04",
                "VfioBoundAtBoot=True VfioIds",
                "vfio-pci takes 10de:1e04 (the options of vfio-pci in /etc/modprobe.d/vfio.conf) from boot on"
            },
            { "/etc/modprobe.d/vfio.conf", "#options vfio-pci ids=10de:1e04\noptions vfio-pci disable_vga=1\n", "VfioBoundAtBoot=", "" },
            {
                "/sys/kernel/security/lockdown",
                "none [integrity] confidentiality\n",
                "KernelLockdown=True Integrity",
                "The kernel is locked down (integrity): it refuses writes to devices' configuration space and mapping of their memory through sysfs, /dev/mem, and modules that aren't signed."
            },
            {
                "/sys/kernel/security/lockdown",
                "none integrity [confidentiality]\n",
                "KernelLockdown=True Confidentiality",
                "The kernel is locked down (confidentiality)"
            },
            { "/sys/kernel/security/lockdown", "[none] integrity confidentiality\n", "KernelLockdown=", "" },
            { "/sys/fs/selinux/enforce", "1", "SELinuxEnforcing=True Enforcing", "SELinux is enforcing." },
            { "/sys/fs/selinux/enforce", "0", "SELinuxEnforcing=", "" },
        };

    [Theory]
    [MemberData(nameof(Files))]
    public void A_file_of_the_host_makes_a_fact(string path, string content, string fact, string says)
    {
        HostSnapshot seen = new Lab(LabHosts.Builder().File(path, content).Build()).Agent.Scan();
        string type = fact[..fact.IndexOf('=', StringComparison.Ordinal)];
        HostFact? found = seen.Facts.SingleOrDefault(f => f.Type == type);
        Assert.Equal(fact, found is null ? $"{type}=" : $"{type}={found.Status} {found.Reason}");
        if (found is not null)
            Assert.StartsWith(says, found.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(
        "intel_iommu=on intremap=off",
        $"(its error is EPERM, \"No interrupt remapping support\"): remove intremap=off from {Grub}."
    )]
    [InlineData("intel_iommu=on nointremap", $"\"No interrupt remapping support\"): remove nointremap from {Grub}.")]
    [InlineData(
        "intel_iommu=on",
        "look for \"remapping\" in the kernel log (dmesg): the firmware's tables are at fault as a rule, and a new BIOS mends them."
    )]
    public void Interrupts_that_are_not_remapped_are_explained(string commandLine, string says)
    {
        var lab = new Lab(LabHosts.Builder().CommandLine(commandLine).WithoutInterruptRemapping().Build());
        HostFact fact = lab.Agent.Scan().Facts.Single(f => f.Type == "InterruptRemapping");
        Assert.Equal((false, "Off"), (fact.Status, fact.Reason));
        Assert.EndsWith(says, fact.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Firmware_that_cannot_remap_interrupts_is_named_and_so_is_a_way_round_it()
    {
        SimulatedHost host = LabHosts
            .Builder()
            .WithoutInterruptRemapping()
            .File("/sys/firmware/acpi/tables/DMAR", "DMAR".PadRight(37, '.') + "\0")
            .File("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y")
            .Build();
        HostFact fact = new Lab(host).Agent.Scan().Facts.Single(f => f.Type == "InterruptRemapping");
        Assert.Equal("UnsafeInterruptsAllowed", fact.Reason);
        Assert.Contains(
            "interrupts aren't remapped (the firmware says that the platform can't (its ACPI table DMAR): enable interrupt remapping or x2APIC in the BIOS, or use another machine); then remove the option",
            fact.Message,
            StringComparison.Ordinal
        );
    }

    [Fact]
    public void The_kernels_default_mode_shows_in_its_groups()
    {
        foreach ((string domain, bool passthrough) in new[] { ("identity", true), ("DMA-FQ", false) })
        {
            SimulatedHostBuilder builder = LabHosts.Builder().CommandLine("intel_iommu=on").File("/sys/kernel/iommu_groups/1/type", domain);
            Assert.Equal(passthrough, new Lab(builder.Build()).Agent.Scan().Facts.Single(f => f.Type == "IommuPassthroughMode").Status);
        }
    }

    [Fact]
    public void Cards_that_share_a_group_are_named_and_functions_of_one_card_are_not()
    {
        Assert.DoesNotContain(new Lab().Agent.Scan().Facts, f => f.Type == "GroupsIsolated");
        var lab = new Lab();
        lab.Simulated.Change(Lab.X520, f => f.Group = lab.Sim(Lab.Igb).Group);
        HostFact fact = lab.Agent.Scan().Facts.Single(f => f.Type == "GroupsIsolated");
        Assert.Equal((false, "SharedGroups"), (fact.Status, fact.Reason));
        Assert.Equal(
            $"Cards share an IOMMU group, so they go to one claim together or not at all: group {lab.Sim(Lab.Igb).Group} holds {Lab.Igb} (8086:10c9 Intel Corporation 82576 Gigabit Network Connection), {Lab.X520} (8086:154d Intel Corporation Ethernet 10G 2P X520 Adapter). To part them, use slots under other root ports, or enable ACS (Access Control Services) in the BIOS.",
            fact.Message
        );
    }

    [Fact]
    public void Huge_pages_are_told_by_node_and_not_how_many_are_free()
    {
        const string nodes = "/sys/devices/system/node";
        SimulatedHost host = LabHosts
            .Builder()
            .File($"{nodes}/node0/hugepages/hugepages-2048kB/nr_hugepages", "1024\n")
            .File($"{nodes}/node0/hugepages/hugepages-2048kB/free_hugepages", "1000\n")
            .File($"{nodes}/node1/hugepages/hugepages-1048576kB/nr_hugepages", "8\n")
            .File($"{nodes}/node1/hugepages/hugepages-1048576kB/free_hugepages", "0\n")
            .File($"{nodes}/node1/hugepages/hugepages-2048kB/nr_hugepages", "0\n")
            .Build();
        var lab = new Lab(host);
        HostFact before = lab.Agent.Scan().Facts.Single(f => f.Type == "HugePages");
        Assert.Equal("Huge pages: NUMA node 0 has 1024 of 2 MiB; NUMA node 1 has 8 of 1 GiB, all in use.", before.Message);
        host.PutFile($"{nodes}/node0/hugepages/hugepages-2048kB/free_hugepages", "500\n");
        Assert.Equal(before, lab.Agent.Scan().Facts.Single(f => f.Type == "HugePages"));
    }

    [Fact]
    public void Nothing_that_cannot_be_read_becomes_a_fact_or_stops_the_scan()
    {
        SimulatedHost host = LabHosts.Builder().CommandLine("pcie_acs_override=downstream").Build();
        host.Fault = a =>
        {
            if (
                a.Path.StartsWith("/proc/cmdline", StringComparison.Ordinal)
                || a.Path.StartsWith("/sys/kernel/irq", StringComparison.Ordinal)
                || a.Path.StartsWith("/sys/fs", StringComparison.Ordinal)
                || a.Path.StartsWith("/sys/kernel/security", StringComparison.Ordinal)
                || a.Path.StartsWith("/sys/devices/system/node", StringComparison.Ordinal)
                || a.Path.StartsWith("/sys/module/vfio_", StringComparison.Ordinal)
            )
            {
                throw new HostIoException("read", a.Path, Errnos.EACCES);
            }
        };
        Assert.Empty(new Lab(host).Agent.Scan().Facts);
    }

    [Fact]
    public void What_stays_until_the_next_boot_is_read_once()
    {
        var lab = new Lab();
        lab.Agent.Scan();
        var reads = new List<string>();
        lab.Simulated.Fault = a =>
        {
            if (a.Before)
                reads.Add(a.Path);
        };
        lab.Agent.Scan();
        Assert.DoesNotContain(
            reads,
            p =>
                p is "/proc/cmdline" or "/proc/cpuinfo"
                || p.Contains("modprobe.d", StringComparison.Ordinal)
                || p.StartsWith("/sys/firmware", StringComparison.Ordinal)
                || p.StartsWith("/sys/kernel/irq", StringComparison.Ordinal)
        );
    }
}
