using PciOperator.Testing;

namespace PciOperator.Kubernetes.Tests.Unit;

public sealed class UnusedMemoryTests
{
    private const long MiB = 1024 * 1024;
    private long _allocated;
    private int _givenBack;

    [Fact]
    public async Task Memory_is_given_back_once_when_work_has_ended_and_not_while_it_goes_on()
    {
        await using var memory = new UnusedMemory(new FakeTimeProvider(), () => _givenBack++, () => _allocated);
        Assert.Equal([0, 0, 1, 1, 1], Looks(memory, 20 * MiB, 20 * MiB, 0, 0, MiB / 4));
        Assert.Equal([1, 2], Looks(memory, 30 * MiB, 0));
    }

    [Fact]
    public async Task Little_work_is_not_worth_a_collection_until_it_adds_up()
    {
        await using var memory = new UnusedMemory(new FakeTimeProvider(), () => _givenBack++, () => _allocated);
        Assert.Equal([0, 0, 0, 0], Looks(memory, MiB, 0, MiB, 0));
        Assert.Equal([0, 1], Looks(memory, 3 * MiB, 0));
    }

    [Fact]
    public void Pages_are_let_go_only_where_they_are_the_programs_file_and_nothing_else()
    {
        string[] smaps =
        [
            "55d6cd000000-55d6cd600000 r--p 00000000 fe:00 1234                       /app/pcioperator-agent",
            "Size:               6144 kB",
            "Rss:                6144 kB",
            "Anonymous:             0 kB",
            "LazyFree:              0 kB",
            "Swap:                  0 kB",
            "55d6cd600000-55d6cde00000 r-xp 00600000 fe:00 1234                       /app/pcioperator-agent",
            "Anonymous:             0 kB",
            "Swap:                  0 kB",
            "55d6cde00000-55d6cde80000 r--p 00e00000 fe:00 1234                       /app/pcioperator-agent",
            "Anonymous:            12 kB",
            "Swap:                  0 kB",
            "55d6cde80000-55d6cdf00000 rw-p 00e80000 fe:00 1234                       /app/pcioperator-agent",
            "Anonymous:             0 kB",
            "Swap:                  0 kB",
            "55d6cdf00000-55d6ce000000 rw-p 00000000 00:00 0 ",
            "Anonymous:             0 kB",
            "Swap:                  0 kB",
            "7f0000000000-7f0000100000 r-xp 00000000 fe:00 77                         /usr/lib/libcrypto.so.3",
            "Anonymous:             0 kB",
            "Swap:                  0 kB",
            "VmFlags: rd ex mr mw me sd",
            "55d6cde00000-55d6cde80000 r--p 00e00000 fe:00 1234                       /app/pcioperator-agent",
            "Anonymous:             0 kB",
            "Swap:                 12 kB",
        ];
        (nint, nint)[] expected = [(unchecked((nint)0x55d6cd000000), 0x600000), (unchecked((nint)0x55d6cd600000), 0x800000)];
        Assert.Equal(expected, ProgramPages.Untouched(smaps, "/app/pcioperator-agent"));
    }

    private int[] Looks(UnusedMemory memory, params long[] allocations)
    {
        var givenBack = new List<int>();
        foreach (long allocation in allocations)
        {
            _allocated += allocation;
            memory.Look();
            givenBack.Add(_givenBack);
        }

        return [.. givenBack];
    }
}
