using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>The host uses a device by a way that no path of sysfs shows.</summary>
public class HostUseTests
{
    private const string Hba = "0000:22:00.0";
    private const string HbaPath = "/sys/devices/pci0000:20/0000:20:01.0/0000:22:00.0";
    private const string Config = "/sys/kernel/config";

    private static readonly (string Name, string Address, string Guard, string Says, Action<SimulatedHost> Change)[] Cases =
    [
        (
            "a loop device on the disk, and its mount",
            Lab.Nvme,
            "Mounted",
            "/dev/nvme1n1 -> loop0, mounted at /mnt/disk: umount /mnt/disk frees it",
            h =>
            {
                Loop(h, "loop0", 0, "/dev/nvme1n1");
                Mount(h, "7:0 / /mnt/disk rw - ext4 /dev/loop0 rw");
            }
        ),
        (
            "a loop device on the disk that nothing uses yet",
            Lab.Nvme,
            "Stacked",
            "/dev/nvme1n1 -> loop0",
            h => Loop(h, "loop0", 0, "/dev/nvme1n1")
        ),
        (
            "the kubelet's loop device on a bind-mounted node",
            Lab.Nvme,
            "Stacked",
            "/dev/nvme1n1 -> loop3",
            h =>
            {
                h.PutLink("/var/lib/kubelet/plugins/volumeDevices/pvc/dev/0b0c", "/dev/nvme1n1");
                Loop(h, "loop3", 3, "/var/lib/kubelet/plugins/volumeDevices/pvc/dev/0b0c");
            }
        ),
        (
            "a loop device on a loop device",
            Lab.Nvme,
            "Stacked",
            "/dev/nvme1n1 -> loop0 -> loop1",
            h =>
            {
                Loop(h, "loop0", 0, "/dev/nvme1n1");
                h.PutLink("/dev/loop0", "/dev/looped0");
                Loop(h, "loop1", 1, "/dev/nvme1n1");
                h.PutLink("/sys/devices/virtual/block/loop1/slaves/loop0", "/sys/class/block/loop0");
                h.RemoveFile("/sys/devices/virtual/block/loop1/loop/backing_file");
            }
        ),
        (
            "zram that writes back to it",
            Lab.Nvme,
            "Stacked",
            "/dev/nvme1n1 -> zram0",
            h =>
            {
                Virtual(h, "zram0", "252:0");
                h.PutFile("/sys/devices/virtual/block/zram0/backing_dev", "/dev/nvme1n1\n");
            }
        ),
        (
            "another virtual device that names it as its slave",
            Lab.Nvme,
            "Stacked",
            "/dev/nvme1n1 -> drbd0",
            h =>
            {
                Virtual(h, "drbd0", "147:0");
                h.PutLink("/sys/devices/virtual/block/drbd0/slaves/nvme1n1", "/sys/class/block/nvme1n1");
            }
        ),
        (
            "its node bind-mounted for a pod",
            Lab.Nvme,
            "Mounted",
            "/dev/nvme1n1, whose node is bind-mounted at /var/lib/kubelet/dev/pvc (as for a pod's raw block volume)",
            h =>
            {
                h.PutLink("/var/lib/kubelet/dev/pvc", "/dev/nvme1n1");
                Mount(h, "0:6 /nvme1n1 /var/lib/kubelet/dev/pvc rw - devtmpfs udev rw");
            }
        ),
        (
            "LIO's fileio backstore on the device",
            Lab.Nvme,
            "Member",
            "exported by LIO as backstore fileio_0/disk",
            h =>
            {
                h.PutFile($"{Config}/target/core/fileio_0/disk/enable", "1\n");
                h.PutFile($"{Config}/target/core/fileio_0/disk/udev_path", "\n");
                h.PutFile(
                    $"{Config}/target/core/fileio_0/disk/info",
                    "Status: ACTIVATED  Max Queue Depth: 128\n        TCM FILEIO ID: 0        File: /dev/nvme1n1  Size: 100  Mode: O_DSYNC Async: 0\n"
                );
            }
        ),
        (
            "LIO's iblock backstore",
            Lab.Nvme,
            "Member",
            "exported by LIO as backstore iblock_1/disk",
            h =>
            {
                h.PutFile($"{Config}/target/core/iblock_1/disk/enable", "1\n");
                h.PutFile($"{Config}/target/core/iblock_1/disk/udev_path", "/dev/nvme1n1\n");
            }
        ),
        (
            "an RNBD export",
            Lab.Nvme,
            "Member",
            "exported over RDMA by RNBD as disk",
            h => h.PutLink("/sys/class/rnbd-server/ctl/devices/disk/block_dev", "/sys/class/block/nvme1n1")
        ),
        (
            "an NVMe target's namespace by another name",
            Lab.Nvme,
            "Member",
            "exported over NVMe as namespace 7 of nqn.lab",
            h =>
            {
                h.PutLink("/dev/disk/by-id/nvme-x", "/dev/nvme1n1");
                h.PutFile($"{Config}/nvmet/subsystems/nqn.lab/namespaces/7/device_path", "/dev/disk/by-id/nvme-x\n");
                h.PutFile($"{Config}/nvmet/subsystems/nqn.lab/namespaces/7/enable", "1\n");
            }
        ),
        (
            "an NVMe controller that is passed through",
            Lab.Nvme,
            "Exported",
            "is passed through over NVMe as nqn.lab",
            h =>
            {
                h.PutLink("/sys/class/nvme/nvme1", "../../devices/pci0000:20/0000:20:02.0/0000:23:00.0/nvme/nvme1");
                h.PutFile($"{Config}/nvmet/subsystems/nqn.lab/passthru/device_path", "/dev/nvme1\n");
                h.PutFile($"{Config}/nvmet/subsystems/nqn.lab/passthru/enable", "1\n");
            }
        ),
        (
            "NVMe over FC",
            Hba,
            "Mounted",
            "0000:22:00.0 carries /dev/nvme9n1, mounted at /san",
            h =>
            {
                FibreChannel(h);
                NvmeOverFc(h, "/sys/devices/virtual/nvme-fabrics/ctl/nvme9/nvme9n1");
            }
        ),
        (
            "NVMe over FC with multipath",
            Hba,
            "Mounted",
            "0000:22:00.0 carries /dev/nvme9n1, mounted at /san",
            h =>
            {
                FibreChannel(h);
                NvmeOverFc(h, "/sys/devices/virtual/nvme-subsystem/nvme-subsys9/nvme9n1");
                h.PutLink("/sys/class/nvme-subsystem/nvme-subsys9", "../../devices/virtual/nvme-subsystem/nvme-subsys9");
                h.PutLink("/sys/devices/virtual/nvme-subsystem/nvme-subsys9/nvme9", "../../nvme-fabrics/ctl/nvme9");
            }
        ),
        (
            "a 9p mount",
            Hba,
            "Mounted",
            "carries the 9p file system hostshare, mounted at /mnt/share: umount /mnt/share frees it",
            h =>
            {
                Virtio(h, "0x0009");
                h.PutFile($"{HbaPath}/virtio3/mount_tag", "hostshare\0");
                Mount(h, "0:50 / /mnt/share rw,relatime - 9p hostshare rw,access=client,trans=virtio");
            }
        ),
        (
            "a 9p mount in a pod",
            Hba,
            "Mounted",
            "mounted at /share by process",
            h =>
            {
                Virtio(h, "0x0009");
                h.PutFile($"{HbaPath}/virtio3/mount_tag", "hostshare\0");
                int pid = h.StartProcess("pod");
                h.MoveToNetNamespace(pid, "net:[4026532555]");
                h.PutFile($"/proc/{pid}/mountinfo", "90 1 0:50 / /share rw - 9p hostshare rw,trans=virtio\n");
            }
        ),
        (
            "virtiofs, whose tag an old kernel doesn't show",
            Hba,
            "Mounted",
            "carries the virtiofs file system shared, mounted at /shared",
            h =>
            {
                Virtio(h, "0x001a");
                Mount(h, "0:50 / /shared rw,relatime - virtiofs shared rw");
            }
        ),
        (
            "virtiofs",
            Hba,
            "Mounted",
            "carries the virtiofs file system shared, mounted at /shared",
            h =>
            {
                Virtio(h, "0x001a");
                h.PutFile("/sys/fs/virtiofs/2/tag", "shared\n");
                h.PutLink("/sys/fs/virtiofs/2/device", $"../../..{HbaPath["/sys".Length..]}/virtio3");
                Mount(h, "0:50 / /shared rw,relatime - virtiofs shared rw");
            }
        ),
        (
            "an FC HBA that is LIO's target",
            Hba,
            "Exported",
            "serves as the SCSI target 21:00:00:24:ff:11:22:33 (qla2xxx)",
            h =>
            {
                FibreChannel(h);
                h.PutFile($"{Config}/target/qla2xxx/21:00:00:24:ff:11:22:33/tpgt_1/enable", "1\n");
            }
        ),
        (
            "an FC HBA that is a port of the NVMe target",
            Hba,
            "Exported",
            "is port 1 of the host's NVMe target",
            h =>
            {
                FibreChannel(h);
                h.PutFile($"{Config}/nvmet/ports/1/addr_trtype", "fc\n");
                h.PutFile($"{Config}/nvmet/ports/1/addr_traddr", "nn-0x20000024ff112233:pn-0x21000024ff112233\n");
                h.PutLink($"{Config}/nvmet/ports/1/subsystems/nqn.lab", $"{Config}/nvmet/subsystems/nqn.lab");
            }
        ),
        (
            "an InfiniBand HCA that is an SRP target",
            Hba,
            "Exported",
            "serves as the SCSI target 0xfe80000000000000e41d2d0300e70041 (srpt)",
            h =>
            {
                h.PutLink("/sys/class/infiniband/mlx4_0", $"../..{HbaPath["/sys".Length..]}/infiniband/mlx4_0");
                h.PutFile($"{HbaPath}/infiniband/mlx4_0/ports/1/gids/0", "fe80:0000:0000:0000:e41d:2d03:00e7:0041\n");
                h.PutFile($"{Config}/target/srpt/0xfe80000000000000e41d2d0300e70041/0xfe80000000000000e41d2d0300e70041/enable", "");
                h.PutFile($"{Config}/target/srpt/0xfe80000000000000e41d2d0300e70041/tpgt_1/enable", "1\n");
            }
        ),
        (
            "a vGPU without a mediated device",
            Lab.X710Vf,
            "MediatedDevice",
            "0000:82:02.1 carries a vGPU of type 1155: remove it first (echo 0 > ",
            h => VGpu(h, "1155")
        ),
        ("a PF with such a vGPU on a VF", Lab.X710, "MediatedDevice", "0000:82:02.1 carries a vGPU", h => VGpu(h, "1155")),
    ];

    private static readonly (string Name, string Address, Action<SimulatedHost> Change)[] Harmless =
    [
        (
            "a loop device on a file",
            Lab.Nvme,
            h =>
            {
                h.PutFile("/var/lib/snapd/core.snap", "");
                Loop(h, "loop0", 0, "/var/lib/snapd/core.snap");
            }
        ),
        ("a loop device on nothing", Lab.Nvme, h => Virtual(h, "loop0", "7:0")),
        (
            "zram without a backing device",
            Lab.Nvme,
            h =>
            {
                Virtual(h, "zram0", "252:0");
                h.PutFile("/sys/devices/virtual/block/zram0/backing_dev", "none\n");
            }
        ),
        (
            "another node bind-mounted",
            Lab.Nvme,
            h =>
            {
                h.PutLink("/var/lib/kubelet/dev/pvc", "/dev/nvme0n1");
                Mount(h, "0:6 /nvme0n1 /var/lib/kubelet/dev/pvc rw - devtmpfs udev rw");
            }
        ),
        (
            "a backstore that is off",
            Lab.Nvme,
            h =>
            {
                h.PutFile($"{Config}/target/core/fileio_0/disk/enable", "0\n");
                h.PutFile($"{Config}/target/core/fileio_0/disk/udev_path", "/dev/nvme1n1\n");
            }
        ),
        ("an FC HBA without anything", Hba, FibreChannel),
        (
            "another HBA's NVMe over FC",
            Hba,
            h =>
            {
                FibreChannel(h);
                NvmeOverFc(h, "/sys/devices/virtual/nvme-fabrics/ctl/nvme9/nvme9n1");
                h.PutFile(
                    "/sys/devices/virtual/nvme-fabrics/ctl/nvme9/address",
                    "traddr=nn-0x1:pn-0x2,host_traddr=nn-0x20000024ff999999:pn-0x21000024ff999999\n"
                );
                h.PutLink("/sys/class/fc_host/host8", "../../devices/pci0000:00/0000:00:1c.0/0000:02:00.0/host8/fc_host/host8");
                h.PutFile("/sys/devices/pci0000:00/0000:00:1c.0/0000:02:00.0/host8/fc_host/host8/port_name", "0x21000024ff999999\n");
            }
        ),
        (
            "a target's port that is off",
            Hba,
            h =>
            {
                FibreChannel(h);
                h.PutFile($"{Config}/target/qla2xxx/21:00:00:24:ff:11:22:33/tpgt_1/enable", "0\n");
            }
        ),
        (
            "a 9p function that isn't mounted",
            Hba,
            h =>
            {
                Virtio(h, "0x0009");
                h.PutFile($"{HbaPath}/virtio3/mount_tag", "hostshare\0");
            }
        ),
        (
            "9p over TCP",
            Hba,
            h =>
            {
                Virtio(h, "0x0009");
                h.PutFile($"{HbaPath}/virtio3/mount_tag", "hostshare\0");
                Mount(h, "0:50 / /mnt/share rw - 9p 192.0.2.1 rw,trans=tcp");
            }
        ),
    ];

    public static TheoryData<string> Names => new(Cases.Select(c => c.Name));

    public static TheoryData<string> HarmlessNames => new(Harmless.Select(c => c.Name));

    [Theory]
    [MemberData(nameof(Names))]
    public async Task It_is_shown_as_refused_and_never_taken(string name)
    {
        (_, string address, string guard, string says, Action<SimulatedHost> change) = Cases.Single(c => c.Name == name);
        var lab = new Lab();
        Assert.Null(lab.Seen(address).GuardReason);
        change(lab.Simulated);
        HostFunction seen = lab.Seen(address);
        Assert.Equal(guard, seen.GuardName);
        Assert.Contains(says, seen.GuardReason, StringComparison.Ordinal);
        Holding holding = await lab.Prepare("claim-1", address);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.GuardRefused), (holding.State, holding.Reason));
        Assert.Contains(says, holding.Message, StringComparison.Ordinal);
        GuardTests.NothingWasDone(lab);
    }

    [Theory]
    [MemberData(nameof(HarmlessNames))]
    public async Task What_only_looks_like_it_is_taken(string name)
    {
        (_, string address, Action<SimulatedHost> change) = Harmless.Single(c => c.Name == name);
        var lab = new Lab();
        change(lab.Simulated);
        Assert.Null(lab.Seen(address).GuardReason);
        Holding holding = await lab.Prepare("claim-1", address);
        Assert.Equal((HoldingState.Prepared, null), (holding.State, holding.Message));
    }

    [Fact]
    public void A_VF_that_could_be_a_vGPU_is_free()
    {
        var lab = new Lab();
        VGpu(lab.Simulated, "0");
        Assert.Null(lab.Seen(Lab.X710Vf).GuardReason);
    }

    private static void Virtual(SimulatedHost host, string name, string number)
    {
        host.PutLink($"/sys/class/block/{name}", $"../../devices/virtual/block/{name}");
        host.PutFile($"/sys/devices/virtual/block/{name}/dev", $"{number}\n");
    }

    private static void Loop(SimulatedHost host, string name, int minor, string backing)
    {
        Virtual(host, name, $"7:{minor}");
        host.PutFile($"/sys/devices/virtual/block/{name}/loop/backing_file", $"{backing}\n");
    }

    private static void Mount(SimulatedHost host, string line) =>
        host.PutFile("/proc/1/mountinfo", $"{host.Files.ReadText("/proc/1/mountinfo")}\n90 1 {line}\n");

    /// <summary>The X520 is an HBA now: its interface is gone, and it has an FC port.</summary>
    private static void FibreChannel(SimulatedHost host)
    {
        host.Change(Hba, f => (f.Class, f.Interfaces) = (0x0c0400, []));
        host.PutLink("/sys/class/fc_host/host7", $"../..{HbaPath["/sys".Length..]}/host7/fc_host/host7");
        host.PutFile($"{HbaPath}/host7/fc_host/host7/port_name", "0x21000024ff112233\n");
    }

    private static void NvmeOverFc(SimulatedHost host, string place)
    {
        const string controller = "/sys/devices/virtual/nvme-fabrics/ctl/nvme9";
        host.PutLink("/sys/class/nvme/nvme9", "../../devices/virtual/nvme-fabrics/ctl/nvme9");
        host.PutFile($"{controller}/transport", "fc\n");
        host.PutFile(
            $"{controller}/address",
            "traddr=nn-0x200000109b346459:pn-0x100000109b346459,host_traddr=nn-0x20000024ff112233:pn-0x21000024ff112233\n"
        );
        host.PutLink("/sys/class/block/nvme9n1", $"../..{place["/sys".Length..]}");
        host.PutFile($"{place}/dev", "259:16\n");
        Mount(host, "259:16 / /san rw - xfs /dev/nvme9n1 rw");

        // It has the number of a simulated disk, for the sake of a node.
        host.PutLink("/dev/nvme9n1", "/dev/nvme1n1");
    }

    private static void Virtio(SimulatedHost host, string device)
    {
        host.Change(Hba, f => (f.Class, f.Interfaces) = (0x000200, []));
        host.PutLink("/sys/bus/virtio/devices/virtio3", $"../../..{HbaPath["/sys".Length..]}/virtio3");
        host.PutFile($"{HbaPath}/virtio3/device", $"{device}\n");
    }

    private static void VGpu(SimulatedHost host, string type)
    {
        host.Change(Lab.X710Vf, f => (f.Driver, f.HostDriver, f.Interfaces) = ("nvidia", "nvidia", []));
        host.Change(Lab.X710Vf, f => (f.Ids, f.Class) = ("10de:20b5", 0x030200));
        host.PutFile($"/sys/devices/pci0000:80/0000:80:01.0/{Lab.X710Vf}/nvidia/current_vgpu_type", $"{type}\n");
    }
}
