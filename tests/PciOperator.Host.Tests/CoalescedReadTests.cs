namespace PciOperator.Host.Tests;

/// <summary>Looks that claims share, and the threads that their work is done on.</summary>
public sealed class CoalescedReadTests
{
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(30);
    private readonly IHostFileSystem _files = new Lab().Simulated.Files;
    private int _looks;

    [Fact]
    public async Task Who_looks_waits_for_those_that_are_about_to_ask_and_one_look_does_for_all()
    {
        var shared = new CoalescedRead<object>(_ => Seen(), _ => true, Long);
        BlockingWork[] works = [Work(), Work(), Work()];
        foreach (BlockingWork work in works)
            shared.Expect(work);
        Task<object> first = Ask(shared, works[0]);
        Task<object> second = Ask(shared, works[1]);
        Assert.Equal(0, Volatile.Read(ref _looks));
        object[] seen = await Task.WhenAll(first, second, Ask(shared, works[2]));
        Assert.Equal(1, _looks);
        Assert.Single(seen.Distinct());
    }

    [Fact]
    public async Task Who_leaves_is_not_waited_for()
    {
        var shared = new CoalescedRead<object>(_ => Seen(), _ => true, Long);
        BlockingWork[] works = [Work(), Work()];
        foreach (BlockingWork work in works)
            shared.Expect(work);
        Task<object> first = Ask(shared, works[0]);
        shared.Leave(works[1]);
        await first;
        Assert.Equal(1, _looks);
    }

    [Fact]
    public async Task A_look_that_began_before_the_question_does_not_answer_it()
    {
        using var began = new ManualResetEventSlim();
        using var end = new ManualResetEventSlim();
        var shared = new CoalescedRead<object>(
            _ =>
            {
                began.Set();
                Assert.True(end.Wait(Long));
                return Seen();
            },
            _ => true,
            Long
        );
        Task<object> first = Ask(shared, Work());
        Assert.True(began.Wait(Long));
        Task<object> second = Ask(shared, Work());
        end.Set();
        Assert.NotSame(await first, await second);
        Assert.Equal(2, _looks);
    }

    [Fact]
    public async Task Who_stands_before_it_asks_holds_up_nobody()
    {
        var shared = new CoalescedRead<object>(_ => Seen(), _ => true, TimeSpan.FromMilliseconds(1));
        BlockingWork standing = Work();
        shared.Expect(standing);
        standing.Enter("writing", "/sys/bus/pci/drivers_probe");
        await Ask(shared, Work());
        Assert.Equal(1, _looks);
    }

    [Fact]
    public async Task A_look_that_the_kernel_holds_up_is_left_by_those_who_wait_for_it()
    {
        using var end = new ManualResetEventSlim();
        using var began = new ManualResetEventSlim();
        BlockingWork standing = Work();
        var shared = new CoalescedRead<object>(
            _ =>
            {
                if (began.IsSet)
                    return Seen();
                standing.Enter("reading", "/proc/4711/maps");
                began.Set();
                Assert.True(end.Wait(Long));
                standing.Leave();
                return Seen();
            },
            _ => true,
            TimeSpan.FromMilliseconds(1)
        );
        BlockingWork other = Work();
        shared.Expect(standing);
        shared.Expect(other);
        Task<object> held = Ask(shared, standing);
        Task<object> follows = Ask(shared, other);
        object seen = await follows;
        Assert.False(held.IsCompleted);
        end.Set();
        Assert.NotSame(seen, await held);
    }

    [Fact]
    public async Task A_look_that_failed_is_nobody_elses()
    {
        var shared = new CoalescedRead<object>(
            _ => Interlocked.Increment(ref _looks) == 1 ? throw new HostIoException("read", "/proc/swaps", Errnos.EIO) : new object(),
            _ => true,
            Long
        );
        BlockingWork[] works = [Work(), Work()];
        foreach (BlockingWork work in works)
            shared.Expect(work);
        Task<object>[] asked = [Ask(shared, works[0]), Ask(shared, works[1])];
        await Task.WhenAll(asked).ContinueWith(_ => { }, TaskScheduler.Default);
        Assert.Equal(1, asked.Count(a => a.IsFaulted));
        Assert.Equal(2, _looks);
    }

    [Fact]
    public async Task A_host_sight_with_something_unread_is_not_shared_and_says_so_when_it_is_asked_for()
    {
        var lab = new Lab();
        Assert.True(HostUsage.Read(lab.Simulated.Files).IsWhole);
        lab.Simulated.Fault = a =>
        {
            if (a is { IsChange: false, Before: true, Path: "/proc" })
                throw new HostIoException("list", "/proc", Errnos.EIO);
        };
        HostUsage usage = await Task.Run(() => HostUsage.Read(lab.Simulated.Files));
        Assert.False(usage.IsWhole);
        Assert.Throws<HostIoException>(() => usage.Processes);
    }

    [Fact]
    public void A_thread_whose_work_has_ended_does_the_next()
    {
        int[] threads = [.. Enumerable.Range(0, 50).Select(_ => RunOn())];
        Assert.InRange(threads.Distinct().Count(), 1, threads.Length - 1);

        static int RunOn()
        {
            int thread = 0;
            using var done = new ManualResetEventSlim();
            WorkThread.Run(
                "test",
                () =>
                {
                    thread = Environment.CurrentManagedThreadId;
                    done.Set();
                }
            );
            Assert.True(done.Wait(Long));
            return thread;
        }
    }

    private static BlockingWork Work() => new(TimeProvider.System, Long);

    private object Seen()
    {
        Interlocked.Increment(ref _looks);
        return new object();
    }

    /// <summary>Asks once, on a thread of its own.</summary>
    private Task<object> Ask(CoalescedRead<object> shared, BlockingWork work) =>
        Task.Factory.StartNew(
            () =>
            {
                try
                {
                    return shared.Take(_files, work);
                }
                finally
                {
                    shared.Leave(work);
                }
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default
        );
}
