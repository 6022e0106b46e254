namespace PciOperator.Host;

/// <summary>What guards look at, whatever the devices are.</summary>
internal sealed class HostUsage
{
    private readonly ProcessFiles? _processes;
    private readonly OtherNamespaces? _namespaces;
    private readonly HostIoException? _failure;

    private HostUsage(IHostFileSystem files)
    {
        Use = HostUse.Read(files);
        try
        {
            _processes = ProcessFiles.Read(files);
            _namespaces = OtherNamespaces.Read(files);
        }
        catch (HostIoException e)
        {
            _failure = e;
        }
    }

    /// <summary>How the host uses its devices.</summary>
    public HostUse Use { get; }

    /// <summary>What its processes have open.</summary>
    /// <exception cref="HostIoException">It could not be read.</exception>
    public ProcessFiles Processes => _processes ?? throw _failure!;

    /// <summary>What other network namespaces have of its interfaces.</summary>
    /// <exception cref="HostIoException">It could not be read.</exception>
    public OtherNamespaces Namespaces => _namespaces ?? throw _failure!;

    /// <summary>Nothing of it failed.</summary>
    public bool IsWhole => _failure is null && Use.Blindness is null;

    public static HostUsage Read(IHostFileSystem files) => new(files);
}

/// <summary>The reads that claims share.</summary>
internal sealed class SharedReads(TimeSpan patience)
{
    /// <summary>For the guards of who takes devices.</summary>
    public CoalescedRead<HostUsage> Usage { get; } = new(HostUsage.Read, usage => usage.IsWhole, patience);

    /// <summary>For who gives devices back: whether somebody still has them open.</summary>
    public CoalescedRead<ProcessFiles> Processes { get; } = new(ProcessFiles.Read, _ => true, patience);
}
