using PciOperator.Core;

namespace PciOperator.Host.Tests;

/// <summary>Processes end while they are looked at.</summary>
public class EndingProcessTests
{
    [Theory]
    [InlineData("fd/3", Errnos.EACCES)]
    [InlineData("fd/3", Errnos.EINVAL)]
    [InlineData("fd", Errnos.EACCES)]
    [InlineData("maps", Errnos.ESRCH)]
    [InlineData("maps", Errnos.EACCES)]
    [InlineData("comm", Errnos.EINVAL)]
    public async Task One_that_is_gone_when_it_is_looked_for_again_is_in_nobodys_way(string file, int errno)
    {
        var lab = new Lab();
        int pid = Start(lab);
        bool told = false;
        lab.Simulated.Fault = a =>
        {
            if (!a.Before || a.Path != $"/proc/{pid}/{file}")
                return;
            if (!told)
                lab.Simulated.StopProcess(pid);
            told = true;
            throw new HostIoException("readlink", a.Path, errno);
        };
        Holding holding = await lab.Prepare("claim-1", Lab.Nvme);
        Assert.Equal((HoldingState.Prepared, null), (holding.State, holding.Message));
        Assert.True(told);
    }

    [Theory]
    [InlineData('Z')]
    [InlineData('X')]
    public async Task One_that_is_dead_and_not_buried_is_in_nobodys_way(char state)
    {
        var lab = new Lab();
        int pid = Start(lab);
        lab.Simulated.PutFile($"/proc/{pid}/stat", $"{pid} (a) name) {state} 1 1 1 0\n");
        lab.Simulated.Fault = a =>
        {
            if (a.Path == $"/proc/{pid}/fd")
                throw new HostIoException("list", a.Path, Errnos.EACCES);
        };
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.Nvme)).State);
    }

    [Fact]
    public async Task One_that_is_there_is_read_again()
    {
        var lab = new Lab();
        int pid = Start(lab);
        int faults = 0;
        lab.Simulated.Fault = a =>
        {
            if (a.Before && a.Path == $"/proc/{pid}/fd/3" && faults++ < 3)
                throw new HostIoException("readlink", a.Path, Errnos.EACCES);
        };
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.Nvme)).State);
        Assert.True(faults > 3);
    }

    [Fact]
    public async Task One_that_is_there_and_cannot_be_read_refuses_after_some_tries()
    {
        var lab = new Lab();
        int pid = Start(lab);
        int faults = 0;
        lab.Simulated.Fault = a =>
        {
            if (!a.Before || a.Path != $"/proc/{pid}/fd/3")
                return;
            faults++;
            throw new HostIoException("readlink", a.Path, Errnos.EACCES);
        };
        Holding holding = await lab.Prepare("claim-1", Lab.Nvme);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.HostUnreadable), (holding.State, holding.Reason));
        Assert.Equal(ProcessFolder.MostTries, faults);
    }

    [Fact]
    public async Task Who_takes_its_place_under_its_number_is_looked_at()
    {
        var lab = new Lab();
        int pid = Start(lab);
        bool told = false;
        lab.Simulated.Fault = a =>
        {
            if (!a.Before || a.Path != $"/proc/{pid}/fd/3" || told)
                return;
            told = true;
            lab.Simulated.PutLink($"/proc/{pid}/fd/141", "/dev/nvme1n1");
            throw new HostIoException("readlink", a.Path, Errnos.EACCES);
        };
        Holding holding = await lab.Prepare("claim-1", Lab.Nvme);
        Assert.Contains($"process {pid} (worker) has /dev/nvme1n1 open", holding.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_whose_first_thread_is_dead_is_looked_at_by_another()
    {
        var lab = new Lab();
        int pid = lab.Simulated.StartProcess("monitor");
        lab.Simulated.PutFile($"/proc/{pid}/maps", "");
        lab.Simulated.PutFile($"/proc/{pid}/task/{pid}/maps", "");
        lab.Simulated.PutFile($"/proc/{pid}/task/{pid + 1}/maps", "55d0c0a00000-55d0c0a21000 r-xp 00000000 fd:01 4711 /usr/bin/tool\n");
        lab.Simulated.PutLink($"/proc/{pid}/task/{pid + 1}/fd/7", "/dev/nvme1n1");
        Assert.Contains(
            $"process {pid} (monitor) has /dev/nvme1n1 open",
            (await lab.Prepare("claim-1", Lab.Nvme)).Message,
            StringComparison.Ordinal
        );
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Mounts_of_one_that_ends_are_nobodys_and_those_of_its_living_thread_count(bool threadLives)
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.X520, f => (f.Class, f.Interfaces) = (0x000200, []));
        lab.Simulated.PutLink("/sys/bus/virtio/devices/virtio3", "../../../devices/pci0000:20/0000:20:01.0/0000:22:00.0/virtio3");
        lab.Simulated.PutFile("/sys/devices/pci0000:20/0000:20:01.0/0000:22:00.0/virtio3/device", "0x0009\n");
        int pid = lab.Simulated.StartProcess("monitor");
        lab.Simulated.MoveToNetNamespace(pid, "net:[4026532555]");
        lab.Simulated.PutFile($"/proc/{pid}/mountinfo", "");
        if (threadLives)
            lab.Simulated.PutFile($"/proc/{pid}/task/{pid + 1}/mountinfo", "90 1 0:50 / /share rw - 9p hostshare rw,trans=virtio\n");
        lab.Simulated.Fault = a =>
        {
            if (a.Before && a.Path == $"/proc/{pid}/mountinfo")
                throw new HostIoException("read", a.Path, Errnos.EINVAL);
        };
        Holding holding = await lab.Prepare("claim-1", Lab.X520);
        Assert.Equal(threadLives ? HoldingReasons.GuardRefused : null, holding.Reason);
        Assert.Equal(threadLives, holding.Message?.Contains("mounted at /share by process", StringComparison.Ordinal) == true);
    }

    [Fact]
    public async Task Another_process_shows_the_namespace_of_one_that_ends()
    {
        var lab = new Lab();
        int first = Start(lab),
            second = Start(lab);
        foreach (int pid in new[] { first, second })
        {
            lab.Simulated.MoveToNetNamespace(pid, "net:[4026532555]");
            lab.Simulated.PutLink($"/proc/{pid}/ns/mnt", "mnt:[4026532556]");
        }

        lab.Simulated.PutLink($"/proc/{second}/root/sys/class/net/eth0", "../../devices/pci0000:20/0000:20:00.0/0000:21:00.0/net/eth0");
        Holding holding = await lab.Prepare("claim-1", Lab.Igb);
        Assert.Contains(
            $"0000:21:00.0 has the interface eth0 in the network namespace of process {second}",
            holding.Message,
            StringComparison.Ordinal
        );
    }

    private static int Start(Lab lab) => lab.Simulated.StartProcess("worker", "/dev/nvme0n1");
}
