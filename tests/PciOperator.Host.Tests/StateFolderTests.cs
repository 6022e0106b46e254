using System.Diagnostics;
using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>The agent's own folder: whatever lies there, whoever has it, and when nothing can be written to it.</summary>
public sealed class StateFolderTests : IDisposable
{
    private const string JournalFolder = $"{SimulatedHost.StateDirectory}/journal";
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("pcioperator-state-");
    private readonly List<Process> _processes = [];

    private string LockFile => $"{_folder.FullName}/agent.lock";

    public void Dispose()
    {
        foreach (Process process in _processes)
        {
            process.Kill(entireProcessTree: true);
            process.Dispose();
        }

        _folder.Delete(recursive: true);
    }

    [Theory]
    [InlineData(".json")]
    [InlineData("..json")]
    [InlineData("a claim.json")]
    [InlineData("\u00e9\n.json")]
    [InlineData("-rf.json")]
    [InlineData("0123456789012345678901234567890123456789012345678901234567890123456789.json")]
    public async Task A_journal_file_with_a_name_that_no_claim_has_holds_up_nothing(string name)
    {
        var lab = new Lab();
        Holding holding = await lab.Prepare("claim-1", Lab.Igb);
        lab.Simulated.PutFile($"{JournalFolder}/{name}", lab.Simulated.Files.ReadText($"{JournalFolder}/claim-1.json")!);
        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        Assert.Equal([holding.ClaimUid], lab.Agent.Holdings.Select(h => h.ClaimUid));
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", Lab.Nvme)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
    }

    [Theory]
    [InlineData("vfio-pci/../../../etc")]
    [InlineData("")]
    [InlineData("two words")]
    public async Task An_entry_that_names_an_impossible_driver_is_not_worked_on(string driver)
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.Igb);
        string path = $"{JournalFolder}/claim-1.json";
        lab.Simulated.PutFile(
            path,
            lab.Simulated.Files.ReadText(path)!
                .Replace("\"originalDriver\": \"igb\"", $"\"originalDriver\": \"{driver}\"", StringComparison.Ordinal)
        );
        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        Assert.Equal(HoldingReasons.JournalCorrupt, Assert.Single(lab.Agent.Holdings).Reason);
    }

    [Theory]
    [InlineData(Errnos.EROFS)]
    [InlineData(Errnos.ENOSPC)]
    public async Task A_file_that_can_neither_be_understood_nor_moved_is_its_own_trouble(int errno)
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-2", Lab.Nvme);
        await lab.Prepare("claim-1", Lab.Igb);
        lab.Simulated.PutFile($"{JournalFolder}/claim-2.json", "{");
        lab.Simulated.PutFile($"{JournalFolder}/claim-3.json.7.tmp", "{");
        lab.Simulated.PutFile($"{SimulatedHost.StateDirectory}/devices/serial%3Ax.0.json", "{");
        lab.Simulated.PutFile($"{SimulatedHost.StateDirectory}/devices/y.json.7.tmp", "{");
        lab.RestartAgent();
        Fill(lab, errno);
        if (errno == Errnos.EROFS)
        {
            // Said, with everything loaded.
            HostIoException said = await Assert.ThrowsAsync<HostIoException>(() => lab.Agent.RecoverAsync());
            Assert.Contains("claim-3.json.7.tmp", said.Message, StringComparison.Ordinal);
        }
        else
        {
            await lab.Agent.RecoverAsync();
        }

        Assert.True(lab.Agent.IsRecovered);
        Assert.Equal([HoldingState.Prepared, HoldingState.Stuck], lab.Agent.Holdings.Select(h => h.State));
        Assert.Contains($"delete {JournalFolder}/claim-2.json on the host", lab.Agent.Holdings[1].Message, StringComparison.Ordinal);
        Assert.Equal(HoldingReasons.JournalCorrupt, (await lab.Agent.PrepareAsync(request)).Reason);
        Assert.Equal(lab.Simulated.Functions.Count, lab.Agent.Scan().Functions.Count);

        // A person puts it right.
        lab.Simulated.Fault = null;
        lab.Simulated.RemoveFile($"{JournalFolder}/claim-2.json");
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
    }

    [Theory]
    [InlineData("journal/claim-2.json")]
    [InlineData("devices/serial%3Ax.0.json")]
    public async Task A_file_that_cannot_be_read_is_its_own_trouble(string file)
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.Igb);
        lab.Simulated.PutFile($"{SimulatedHost.StateDirectory}/{file}", "{}");
        lab.RestartAgent();
        lab.Simulated.Fault = a =>
        {
            if (a is { Before: true, Operation: SimulatedOperation.Read } && a.Path.EndsWith(file, StringComparison.Ordinal))
                throw new HostIoException("read", a.Path, Errnos.EISDIR);
        };
        await lab.Agent.RecoverAsync();
        Assert.Contains(lab.Agent.Holdings, h => h is { ClaimUid: "claim-1", State: HoldingState.Prepared });
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-3", Lab.Nvme)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
    }

    [Theory]
    [InlineData(Errnos.EROFS)]
    [InlineData(Errnos.ENOSPC)]
    public async Task When_nothing_can_be_written_claims_are_refused_or_kept_and_say_why(int errno)
    {
        var lab = new Lab();
        AssignmentRequest second = lab.Request("claim-2", Lab.Nvme);
        Holding held = await lab.Prepare("claim-1", Lab.Igb);
        string picture = lab.Picture();
        Fill(lab, errno);
        Holding refused = await lab.Agent.PrepareAsync(second);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.JournalFailed), (refused.State, refused.Reason));
        Assert.Contains(Errnos.Name(errno), refused.Message, StringComparison.Ordinal);
        Assert.Equal(["claim-1"], lab.Agent.Holdings.Select(h => h.ClaimUid));
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(held.Request)).State);
        Holding? kept = await lab.Agent.ReleaseAsync("claim-1");
        Assert.Equal((HoldingState.Releasing, HoldingReasons.JournalFailed), (kept!.State, kept.Reason));
        Assert.Contains(Errnos.Name(errno), kept.Message, StringComparison.Ordinal);
        Assert.Equal(picture, lab.Picture());

        lab.Simulated.Fault = null;
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(second)).State);
    }

    [Fact]
    public async Task A_second_agent_on_a_host_says_so_and_stays_still_until_the_first_has_ended()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb),
            other = lab.Request("claim-2", Lab.Nvme);
        await lab.Agent.PrepareAsync(request);
        int writes = lab.Simulated.Log.Count;
        var second = new PassthroughHost(lab.Simulated.FilesOfAnotherAgent(), SimulatedHost.StateDirectory);
        StateFolderInUseException said = await Assert.ThrowsAsync<StateFolderInUseException>(() => second.RecoverAsync());
        Assert.Contains("Another agent works on this host", said.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<StateFolderInUseException>(() => second.PrepareAsync(other));
        await Assert.ThrowsAsync<StateFolderInUseException>(() => second.ReleaseAsync("claim-1"));
        await Assert.ThrowsAsync<StateFolderInUseException>(() => second.SetVfsAsync(Core.PciAddress.Parse(Lab.Igb), 1));
        Assert.Throws<StateFolderInUseException>(() => second.ClearUsedOnce(Core.PciAddress.Parse(Lab.Igb)));
        Assert.Equal(writes, lab.Simulated.Log.Count);

        lab.Simulated.CrashAgent();
        await second.RecoverAsync();
        Assert.Equal("claim-1", Assert.Single(second.Holdings).ClaimUid);
        Assert.Null(await second.ReleaseAsync("claim-1"));
    }

    [Fact]
    public void A_folder_is_one_process_and_free_when_that_is_killed()
    {
        var files = new LinuxFileSystem();
        Process other = HoldLock();
        Assert.Equal("another process", files.TakeFolder(_folder.FullName));
        other.Kill();
        other.WaitForExit();
        Assert.Null(files.TakeFolder(_folder.FullName));
        Assert.Null(new LinuxFileSystem().TakeFolder(_folder.FullName));
        Assert.False(OthersCanLock());
        Assert.Contains($"{Environment.ProcessId} ", Said(), StringComparison.Ordinal);
    }

    [Fact]
    public void The_lock_of_a_living_agent_is_left_to_it_and_it_is_named()
    {
        HoldLock();
        SaysThatItIs(Environment.ProcessId);
        Assert.StartsWith(
            $"process {Environment.ProcessId} (",
            new LinuxFileSystem().TakeFolder(_folder.FullName),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public void The_lock_of_a_killed_agent_that_a_thread_in_the_kernel_keeps_is_replaced()
    {
        // A process that has ended but for what is left of it: a zombie; its lock is still there.
        HoldLock();
        Process parent = Start("sh", "-c", "sleep 0 & echo $!; exec sleep 60");
        int zombie = int.Parse(parent.StandardOutput.ReadLine()!, System.Globalization.CultureInfo.InvariantCulture);
        SpinWait.SpinUntil(() => File.ReadAllText($"/proc/{zombie}/stat").Contains(") Z ", StringComparison.Ordinal));
        SaysThatItIs(zombie);
        Assert.Null(new LinuxFileSystem().TakeFolder(_folder.FullName));
        Assert.False(OthersCanLock());
        Assert.Contains($"{Environment.ProcessId} ", Said(), StringComparison.Ordinal);
    }

    private static void Fill(Lab lab, int errno) =>
        lab.Simulated.Fault = a =>
        {
            if (
                a is { Before: true, Operation: SimulatedOperation.WriteDurably } or { Before: true, Operation: SimulatedOperation.Delete }
                    && errno == Errnos.EROFS
                || a is { Before: true, Operation: SimulatedOperation.WriteDurably }
            )
            {
                throw new HostIoException("write", a.Path, errno);
            }
        };

    /// <summary>Another process has the lock, and doesn't say who it is.</summary>
    private Process HoldLock()
    {
        Process process = Start("flock", "-x", "-o", LockFile, "sh", "-c", "echo locked; exec sleep 60");
        Assert.Equal("locked", process.StandardOutput.ReadLine());
        return process;
    }

    private void SaysThatItIs(int pid)
    {
        string stat = File.ReadAllText($"/proc/{pid}/stat");
        string started = stat[(stat.LastIndexOf(") ", StringComparison.Ordinal) + 2)..].Split(' ')[19];
        new LinuxFileSystem().Write(LockFile, $"{pid} {started} {new FileInfo("/proc/self/ns/pid").LinkTarget}\n");
    }

    /// <summary>Not by .NET's file streams, which take a lock themselves.</summary>
    private string Said() => new LinuxFileSystem().ReadText(LockFile) ?? "";

    private bool OthersCanLock()
    {
        using var process = Process.Start("flock", ["-n", LockFile, "true"]);
        process.WaitForExit();
        return process.ExitCode == 0;
    }

    private Process Start(string program, params string[] arguments)
    {
        Process process = Process.Start(
            new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true }
        )!;
        _processes.Add(process);
        return process;
    }
}
