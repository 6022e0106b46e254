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
    public async Task Another_process_shows_the_namespace_of_one_that_ends()
    {
        var lab = new Lab();
        int first = Start(lab), second = Start(lab);
        foreach (int pid in new[] { first, second })
        {
            lab.Simulated.MoveToNetNamespace(pid, "net:[4026532555]");
            lab.Simulated.PutLink($"/proc/{pid}/ns/mnt", "mnt:[4026532556]");
        }

        lab.Simulated.PutLink($"/proc/{second}/root/sys/class/net/eth0", "../../devices/pci0000:20/0000:20:00.0/0000:21:00.0/net/eth0");
        Holding holding = await lab.Prepare("claim-1", Lab.Igb);
        Assert.Contains($"0000:21:00.0 has the interface eth0 in the network namespace of process {second}", holding.Message, StringComparison.Ordinal);
    }

    private static int Start(Lab lab) => lab.Simulated.StartProcess("worker", "/dev/nvme0n1");
}
