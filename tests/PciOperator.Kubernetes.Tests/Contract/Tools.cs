using System.Net;
using System.Threading.Channels;
using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes.Tests.Contract;

/// <summary>The changes of a cache, one after the other.</summary>
internal sealed class ChangeLog<T> : IDisposable
    where T : class, IKubernetesObject<V1ObjectMeta>
{
    private readonly Channel<string> _changes = Channel.CreateUnbounded<string>();

    public ChangeLog(WatchCache<T> cache, Func<T, string> describe) =>
        cache.OnChange(change => _changes.Writer.TryWrite($"{change.Kind} {describe((change.New ?? change.Old)!)}"));

    public async Task<string> NextAsync(CancellationToken ct) => await _changes.Reader.ReadAsync(ct);

    /// <summary>Waits through changes until something holds.</summary>
    public async Task UntilAsync(Func<bool> condition, CancellationToken ct)
    {
        while (!condition())
            await NextAsync(ct);
    }

    public bool IsEmpty => !_changes.Reader.TryPeek(out _);

    public void Dispose() => _changes.Writer.TryComplete();
}

/// <summary>Breaks watches off on demand, as a network does, and can say that their place is forgotten.</summary>
internal sealed class BreakingWatches : DelegatingHandler
{
    private readonly Lock _lock = new();
    private readonly List<CancellationTokenSource> _watches = [];
    private TaskCompletionSource _none = new();

    public int Lists { get; private set; }

    /// <summary>When set, the next watch is told, as soon as this completes, that its version is too old.</summary>
    public Task? ForgetAfter { get; set; }

    /// <summary>Breaks all watches that are open, when there is one.</summary>
    public async Task BreakAsync()
    {
        CancellationTokenSource[] open;
        while (true)
        {
            Task opened;
            lock (_lock)
            {
                open = [.. _watches];
                _watches.Clear();
                opened = _none.Task;
                if (open.Length > 0)
                    _none = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            }

            if (open.Length > 0)
                break;
            await opened;
        }

        foreach (CancellationTokenSource watch in open)
            await watch.CancelAsync();
    }

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        if (!request.RequestUri!.Query.Contains("watch=true", StringComparison.Ordinal))
        {
            if (request.Method == HttpMethod.Get)
                Lists++;
            return await base.SendAsync(request, cancellationToken);
        }

        if (ForgetAfter is { } missed)
        {
            ForgetAfter = null;
            await missed.WaitAsync(cancellationToken);
            return new HttpResponseMessage(HttpStatusCode.Gone)
            {
                Content = new StringContent("""{"kind":"Status","reason":"Expired","code":410,"message":"too old resource version"}"""),
            };
        }

        HttpResponseMessage response = await base.SendAsync(request, cancellationToken);
        var broken = new CancellationTokenSource();
        response.Content = new StreamContent(
            new BreakableStream(await response.Content.ReadAsStreamAsync(cancellationToken), broken.Token)
        );
        lock (_lock)
        {
            _watches.Add(broken);
            _none.TrySetResult();
        }

        return response;
    }

    private sealed class BreakableStream(Stream inner, CancellationToken broken) : Stream
    {
        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, broken);
            try
            {
                return await inner.ReadAsync(buffer, either.Token);
            }
            catch (OperationCanceledException) when (broken.IsCancellationRequested)
            {
                throw new IOException("The connection was reset.");
            }
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing)
                inner.Dispose();
            base.Dispose(disposing);
        }

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Flush() { }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
