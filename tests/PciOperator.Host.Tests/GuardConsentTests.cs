using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>A guard is overridden with the host's consent only, and never for what the host can't be without.</summary>
public class GuardConsentTests
{
    private const string Consent = $"{SimulatedHost.StateDirectory}/guard-overrides";

    [Theory]
    [InlineData(null, false)]
    [InlineData("", false)]
    [InlineData("# 0000:21:00.0\n0000:22:00.0\n", false)]
    [InlineData("0000:22:00.0\n0000:21:00.0 # the lab's second card\n", true)]
    [InlineData("*\n", true)]
    public async Task An_override_counts_when_the_host_consents(string? file, bool counts)
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Igb, f => f.Interfaces[0].Address = true);
        lab.Simulated.RemoveFile(Consent);
        if (file is not null)
            lab.Simulated.PutFile(Consent, file);
        lab.Agent.GuardOverrides = [Override(lab, Lab.Igb)];
        HostFunction seen = lab.Seen(Lab.Igb);
        Assert.Equal(counts, seen.GuardReason is null);
        Assert.Equal(counts ? HoldingState.Prepared : HoldingState.Rejected, (await lab.Prepare("claim-1", Lab.Igb)).State);
        if (counts)
            return;
        Assert.Contains("the address 172.17.0.5/24", seen.GuardReason, StringComparison.Ordinal);
        Assert.Contains(
            $"counts when the host consents: add a line 0000:21:00.0 to {Consent} there.",
            seen.GuardReason,
            StringComparison.Ordinal
        );
        GuardTests.NothingWasDone(lab);
    }

    [Fact]
    public async Task Consent_that_is_taken_back_counts_for_the_next_claim()
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Igb, f => f.Interfaces[0].Address = true);
        lab.Agent.GuardOverrides = [Override(lab, Lab.Igb)];
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        lab.Simulated.RemoveFile(Consent);
        Assert.Equal(HoldingReasons.GuardRefused, (await lab.Agent.PrepareAsync(request)).Reason);
        GuardTests.NothingWasDone(lab);
    }

    public static TheoryData<string, string, string> Vital =>
        new()
        {
            { "the boot disk", Lab.BootDisk, "Mounted" },
            { "the default route", Lab.ManagementNic, "NetworkUse" },
            { "root elsewhere", Lab.Nvme, "Mounted" },
            { "root on LVM", Lab.Nvme, "Mounted" },
            { "root on a loop device", Lab.Nvme, "Mounted" },
            { "/var/lib/kubelet", Lab.Nvme, "Mounted" },
            { "/var/lib/containerd", Lab.Nvme, "Mounted" },
            { "/boot", Lab.Nvme, "Mounted" },
            { "another device of the root's btrfs", Lab.Nvme, "Member" },
            { "the root's ZFS pool", Lab.Nvme, "Member" },
            { "a bond with the default route", Lab.Igb, "UpperInterface" },
            { "root from the hypervisor", Lab.X520, "Mounted" },
        };

    [Theory]
    [MemberData(nameof(Vital))]
    public async Task What_the_host_runs_from_is_never_given_away(string name, string address, string guard)
    {
        var lab = new Lab();
        Make(lab.Simulated, name);
        lab.Agent.GuardOverrides = [Override(lab, address)];
        HostFunction seen = lab.Seen(address);
        Assert.Equal(guard, seen.GuardName);
        Assert.EndsWith("and this can't be overridden: the host needs it.", seen.GuardReason, StringComparison.Ordinal);
        Assert.Equal(
            (HoldingState.Rejected, HoldingReasons.GuardRefused),
            (await lab.Prepare("claim-1", address)) is var h ? (h.State, h.Reason) : default
        );
        GuardTests.NothingWasDone(lab);
    }

    [Theory]
    [InlineData("/data")]
    [InlineData("/srv/var/lib/kubelet")]
    public void What_is_only_mounted_can_be_given_away(string place)
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Nvme, f => f.Disks[0].MountedAt = place);
        lab.Agent.GuardOverrides = [Override(lab, Lab.Nvme)];
        Assert.Null(lab.Seen(Lab.Nvme).GuardReason);
    }

    private static void Make(SimulatedHost host, string name)
    {
        void Disk(string place)
        {
            host.Change(Lab.Nvme, f => f.Disks[0].MountedAt = place);
            host.PutFile($"{place.TrimEnd('/')}/there", "");
        }

        string mounts = host.Files.ReadText("/proc/1/mountinfo")!;
        switch (name)
        {
            case "root elsewhere":
                Disk("/");
                break;
            case "root on LVM":
                host.Stack(
                    new SimulatedStack
                    {
                        Name = "dm-0",
                        On = ["nvme1n1"],
                        MapperName = "vg-root",
                        MountedAt = "/",
                    }
                );
                break;
            case "root on a loop device":
                host.PutLink("/sys/class/block/loop0", "../../devices/virtual/block/loop0");
                host.PutFile("/sys/devices/virtual/block/loop0/dev", "7:0\n");
                host.PutFile("/sys/devices/virtual/block/loop0/loop/backing_file", "/dev/nvme1n1\n");
                host.PutFile("/proc/1/mountinfo", $"{mounts}\n90 1 7:0 / / rw - ext4 /dev/loop0 rw\n");
                break;
            case "/var/lib/kubelet" or "/var/lib/containerd" or "/boot":
                Disk(name);
                break;
            case "another device of the root's btrfs":
                host.PutFile("/sys/fs/btrfs/4d0f/devices/nvme1n1", "");
                host.PutFile("/sys/fs/btrfs/4d0f/devices/nvme0n1p2", "");
                break;
            case "the root's ZFS pool":
                host.PutFile("/proc/1/mountinfo", $"{mounts}\n90 1 0:70 / / rw - zfs rpool/ROOT/os rw\n");
                host.PutFile("/proc/spl/kstat/zfs/rpool/state", "ONLINE");
                host.PutFile("/run/udev/data/b259:16", "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=rpool\n");
                break;
            case "a bond with the default route":
                host.Change(Lab.Igb, f => (f.Interfaces[0].Master, f.Interfaces[0].UpperRoute) = ("bond0", true));
                break;
            case "root from the hypervisor":
                host.PutLink("/sys/bus/virtio/devices/virtio3", "../../../devices/pci0000:20/0000:20:01.0/0000:22:00.0/virtio3");
                host.PutFile("/sys/devices/pci0000:20/0000:20:01.0/0000:22:00.0/virtio3/device", "0x001a\n");
                host.PutFile("/proc/1/mountinfo", $"{mounts}\n90 1 0:70 / / rw - virtiofs root rw\n");
                break;
            default:
                break;
        }
    }

    private static GuardOverride Override(Lab lab, string address)
    {
        PciFunction f = lab.Seen(address).Function;
        return new GuardOverride(f.Address, $"{f.VendorId}:{f.ProductId}", null);
    }
}
