using System.Globalization;
using System.Text.RegularExpressions;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// What of a host helps or hinders passthrough beyond IOMMU and VFIO themselves, in the words of the classic passthrough
/// guides. A fact is only there when it says something; what can't be read says nothing.
/// </summary>
internal sealed partial class HostDiagnosis(IHostFileSystem files)
{
    // A condition is read by people: of many groups some are enough.
    private const int MostGroups = 4;
    private const int MostMembers = 4;

    // Looked at once: neither NUMA nodes nor their page sizes change while a kernel runs.
    private List<(string Node, int PageKilobytes, string Folder)>? _pages;

    private BootFacts? _boot;

    private BootFacts Boot => BootBy(files);

    /// <summary>
    /// What stays as it is until the next boot. Whoever asks first reads it, in the way that it reads the host: what hangs then is known to
    /// be its.
    /// </summary>
    public BootFacts BootBy(IHostFileSystem reader) => _boot ??= BootFacts.Read(reader);

    /// <summary>The facts in a fixed order, each type at most once.</summary>
    public List<HostFact> Facts(IommuFacts iommu, IReadOnlyList<HostFunction> functions)
    {
        HostFact?[] all =
        [
            iommu.Enabled ? InterruptRemapping() : null,
            iommu.Enabled ? PassthroughMode() : null,
            GroupsIsolated(functions),
            VfioBoundAtBoot(),
            Lockdown(),
            SELinux(),
            HugePages(),
        ];
        return [.. all.OfType<HostFact>()];
    }

    /// <summary>Without it a guest's device can send the host any interrupt; VFIO refuses unless told otherwise.</summary>
    private HostFact? InterruptRemapping()
    {
        const string type = "InterruptRemapping";
        bool unsafeAllowed = Text("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts") is "Y" or "1";
        string whyOff = Boot switch
        {
            { CommandLine: var line } when line.Last("intremap", "on", "off") == "off" => $"{BootLoader.Remove("intremap=off")}",
            { CommandLine: var line } when line.Has("nointremap") => $"{BootLoader.Remove("nointremap")}",
            { DmarInterruptRemapping: false } =>
                "the firmware says that the platform can't (its ACPI table DMAR): enable interrupt remapping or x2APIC in the BIOS, or use another machine",
            { Virtual: true } => "give this virtual machine's IOMMU intremap=on (libvirt: <driver intremap='on'/> in <iommu>)",
            _ =>
                "look for \"remapping\" in the kernel log (dmesg): the firmware's tables are at fault as a rule, and a new BIOS mends them",
        };
        if (unsafeAllowed)
        {
            return new HostFact(
                type,
                false,
                "UnsafeInterruptsAllowed",
                "vfio_iommu_type1 takes devices without interrupt remapping (allow_unsafe_interrupts=1), so that a guest can send the host any interrupt: "
                    + (Boot.InterruptRemapping == false ? $"interrupts aren't remapped ({whyOff}); then " : "")
                    + "remove the option from /etc/modprobe.d (or vfio_iommu_type1.allow_unsafe_interrupts=1 from the kernel command line), and reboot."
            );
        }

        return Boot.InterruptRemapping switch
        {
            true => new HostFact(
                type,
                true,
                "On",
                "The IOMMU remaps interrupts: a guest's device can't send the host interrupts that it was not given."
            ),
            false => new HostFact(
                type,
                false,
                "Off",
                $"Interrupts aren't remapped, and VFIO gives no device to a guest without that (its error is EPERM, \"No interrupt remapping support\"): {whyOff}."
            ),
            null => null,
        };
    }

    /// <summary>Whether the host's own devices go round the IOMMU; says nothing about guests' devices.</summary>
    private HostFact? PassthroughMode()
    {
        KernelCommandLine line = Boot.CommandLine;
        bool? passthrough = line.Last("iommu", "pt", "nopt") switch
        {
            "pt" => true,
            "nopt" => false,
            _ => null,
        };
        passthrough ??= line.Last("iommu.passthrough", "0", "1") switch
        {
            "1" => true,
            "0" => false,
            _ => null,
        };
        passthrough ??= DefaultDomain switch
        {
            "identity" => true,
            "DMA" or "DMA-FQ" => false,
            _ => null,
        };
        return passthrough switch
        {
            true => new HostFact(
                "IommuPassthroughMode",
                true,
                "HostUntranslated",
                "The host's own devices go round the IOMMU (iommu=pt): fastest for the host; guests' devices are isolated all the same."
            ),
            false => new HostFact(
                "IommuPassthroughMode",
                false,
                "HostTranslated",
                $"The host's own devices are translated by the IOMMU too: safest, slower for its fast NICs and NVMe. If that matters, {BootLoader.Add("iommu=pt")}."
            ),
            null => null,
        };
    }

    /// <summary>
    /// The kernel's default for devices, as the first group that tells shows it (Documentation/ABI/testing/sysfs-kernel-iommu_groups).
    /// </summary>
    private string? DefaultDomain =>
        field ??= BootFacts
            .Optional(() => files.List(SysfsPaths.IommuGroups))
            ?.Take(MostGroups)
            .Select(group => Text($"{SysfsPaths.IommuGroups}/{group}/type"))
            .FirstOrDefault(t => t is not null);

    /// <summary>Cards that share an IOMMU group although they are apart, or are apart only because the kernel was told so.</summary>
    private HostFact? GroupsIsolated(IReadOnlyList<HostFunction> functions)
    {
        const string type = "GroupsIsolated";
        if (Boot.CommandLine.Values("pcie_acs_override") is { Count: > 0 } overridden)
        {
            return new HostFact(
                type,
                false,
                "AcsOverride",
                $"The kernel was booted with pcie_acs_override={string.Join(',', overridden)}: where it has that patch it calls devices isolated that are not, and a guest's device may reach another guest's memory or the host's. Only for guests that trust each other; otherwise {BootLoader.Remove("pcie_acs_override=")}."
            );
        }

        List<IGrouping<int, HostFunction>> shared =
        [
            .. functions
                .Where(f => f.Function.IommuGroup is not null && !f.Function.IsBridge)
                .GroupBy(f => f.Function.IommuGroup!.Value)
                .Where(g => g.Select(f => Slot(f.Function.ParentAddress ?? f.Address)).Distinct().Count() > 1)
                .OrderBy(g => g.Key),
        ];
        if (shared.Count == 0)
            return null;
        string groups = Some(
            shared.Select(g => $"group {g.Key} holds {Some(g.Select(Name), MostMembers, "functions")}"),
            MostGroups,
            "groups"
        );
        return new HostFact(
            type,
            false,
            "SharedGroups",
            $"Cards share an IOMMU group, so they go to one claim together or not at all: {groups}. To part them, use slots under other root ports, or enable ACS (Access Control Services) in the BIOS."
        );
    }

    /// <summary>Why devices are on vfio-pci that no claim asked for.</summary>
    private HostFact? VfioBoundAtBoot() =>
        Boot.VfioIds.Count == 0
            ? null
            : new HostFact(
                "VfioBoundAtBoot",
                true,
                "VfioIds",
                $"vfio-pci takes {string.Join(" and ", Boot.VfioIds.Select(v => $"{v.Ids} ({v.Where})"))} from boot on. Such devices are offered by a PciDeviceSpec with managed: false alone; to have them bound when they are claimed, and back on their own drivers after, remove that, run update-initramfs -u (Debian, Ubuntu) or dracut -f (RHEL, SUSE), and reboot."
            );

    /// <summary>Documentation: man 7 kernel_lockdown. "none [integrity] confidentiality" names the level in force.</summary>
    private HostFact? Lockdown()
    {
        string level = Level().Match(Text("/sys/kernel/security/lockdown") ?? "").Groups[1].Value;
        return level switch
        {
            "integrity" or "confidentiality" => new HostFact(
                "KernelLockdown",
                true,
                level == "integrity" ? "Integrity" : "Confidentiality",
                $"The kernel is locked down ({level}): it refuses writes to devices' configuration space and mapping of their memory through sysfs, /dev/mem, and modules that aren't signed{(level == "integrity" ? "" : ", and also /proc/kcore and what else reads the kernel's memory")}. vfio-pci itself works; a VFIO driver or a NIC driver of your own must be signed with a key that the kernel knows (mokutil --import), or Secure Boot (lockdown= on the kernel command line) turned off."
            ),
            _ => null,
        };
    }

    private HostFact? SELinux() =>
        Text("/sys/fs/selinux/enforce") == "1"
            ? new HostFact(
                "SELinuxEnforcing",
                true,
                "Enforcing",
                "SELinux is enforcing. The agent runs as a privileged container (spc_t) and isn't held up; a VM or a pod that is denied /dev/vfio shows in ausearch -m avc -ts recent, and setsebool -P container_use_devices on lets containers use the devices that they are given."
            )
            : null;

    /// <summary>Pages reserved on each NUMA node. How many are free is said roughly: each VM that starts changes it.</summary>
    private HostFact? HugePages()
    {
        _pages ??=
        [
            .. from node in BootFacts.Optional(() => files.List("/sys/devices/system/node")) ?? []
            where
                node.StartsWith("node", StringComparison.Ordinal) && node.Length > 4 && node.AsSpan(4).IndexOfAnyExceptInRange('0', '9') < 0
            orderby node.Length, node
            from size in BootFacts.Optional(() => files.List($"/sys/devices/system/node/{node}/hugepages")) ?? []
            let kilobytes = PageSize().Match(size)
            where kilobytes.Success
            select (
                node[4..],
                int.Parse(kilobytes.Groups[1].Value, CultureInfo.InvariantCulture),
                $"/sys/devices/system/node/{node}/hugepages/{size}"
            ),
        ];
        var words = new List<string>();
        foreach ((string node, int kilobytes, string folder) in _pages.OrderBy(p => p.PageKilobytes))
        {
            if (Inventory.Number(Text($"{folder}/nr_hugepages")) is not (> 0 and var count))
                continue;
            int? free = Inventory.Number(Text($"{folder}/free_hugepages"));
            string size =
                kilobytes >= 1 << 20 ? $"{kilobytes >> 20} GiB"
                : kilobytes >= 1 << 10 ? $"{kilobytes >> 10} MiB"
                : $"{kilobytes} KiB";
            words.Add($"NUMA node {node} has {count} of {size}{(free == 0 ? ", all in use" : "")}");
        }

        return words.Count == 0 ? null : new HostFact("HugePages", true, "Reserved", $"Huge pages: {string.Join("; ", words)}.");
    }

    private string? Text(string path) => BootFacts.Optional(() => files.ReadText(path))?.Trim();

    private static (uint Domain, int Bus, int Slot) Slot(PciAddress a) => (a.Domain, a.Bus, a.Slot);

    private static string Name(HostFunction f) =>
        $"{f.Address} ({f.Function.VendorId}:{f.Function.ProductId}{(f.Name is { } name ? $" {name}" : "")})";

    private static string Some(IEnumerable<string> all, int most, string what)
    {
        List<string> words = [.. all];
        return words.Count <= most
            ? string.Join(", ", words)
            : $"{string.Join(", ", words.Take(most))} and {words.Count - most} more {what}";
    }

    [GeneratedRegex(@"\[(\w+)\]")]
    private static partial Regex Level();

    [GeneratedRegex(@"^hugepages-(\d+)kB$")]
    private static partial Regex PageSize();
}
