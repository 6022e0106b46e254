using System.Threading.Channels;

namespace PciOperator.Sandbox.ApiServer.Storage;

/// <summary>
/// A watch's inbox. Changes and bookmarks are put in under the store's lock, so that a bookmark never overtakes a change.
/// </summary>
internal sealed class Subscription(string? onlyName)
{
    private const int MostPending = 20_000;

    private readonly Channel<Delivery> _inbox = Channel.CreateUnbounded<Delivery>(new UnboundedChannelOptions { SingleReader = true });
    private int _pending;

    /// <summary>The only object name this watch wants, when it has one: such watches cost nothing for other objects.</summary>
    public string? OnlyName { get; } = onlyName;

    public ChannelReader<Delivery> Inbox => _inbox.Reader;

    public void Offer(Change change)
    {
        // A reader that is far behind is cut off, as kube-apiserver does it: it lists or resumes.
        if (Interlocked.Increment(ref _pending) > MostPending)
            _inbox.Writer.TryComplete();
        else
            _inbox.Writer.TryWrite(new Delivery(change, change.ResourceVersion));
    }

    public void OfferBookmark(long resourceVersion)
    {
        Interlocked.Increment(ref _pending);
        _inbox.Writer.TryWrite(new Delivery(null, resourceVersion));
    }

    public void Taken() => Interlocked.Decrement(ref _pending);

    /// <summary>Ends the watch after what is already in the inbox.</summary>
    public void Close() => _inbox.Writer.TryComplete();
}

/// <summary>A change for a watch, or (without one) a bookmark.</summary>
internal readonly record struct Delivery(Change? Change, long ResourceVersion);
