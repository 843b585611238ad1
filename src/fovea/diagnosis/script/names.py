"""Names of libraries: layers, activations, optimizers, losses, data sets, and where Keras moved what."""

from __future__ import annotations

# class -> (kind, the names of its first arguments)
KERAS_LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Dense": ("dense", ("units", "activation")),
    "Conv1D": ("conv1d", ("filters", "kernel_size", "strides", "padding")),
    "Conv2D": ("conv2d", ("filters", "kernel_size", "strides", "padding")),
    "Convolution2D": ("conv2d", ("filters", "kernel_size", "columns", "strides")),
    "Convolution1D": ("conv1d", ("filters", "kernel_size")),
    "Conv3D": ("conv3d", ("filters", "kernel_size")),
    "SeparableConv2D": ("separableconv2d", ("filters", "kernel_size", "strides", "padding")),
    "SeparableConvolution2D": ("separableconv2d", ("filters", "kernel_size")),
    "DepthwiseConv2D": ("depthwiseconv2d", ("kernel_size",)),
    "Conv2DTranspose": ("conv2dtranspose", ("filters", "kernel_size")),
    "LocallyConnected2D": ("locallyconnected2d", ("filters", "kernel_size")),
    "MaxPooling2D": ("maxpooling2d", ("pool_size", "strides")),
    "MaxPool2D": ("maxpooling2d", ("pool_size", "strides")),
    "AveragePooling2D": ("averagepooling2d", ("pool_size", "strides")),
    "AvgPool2D": ("averagepooling2d", ("pool_size", "strides")),
    "GlobalAveragePooling2D": ("globalaveragepooling2d", ()),
    "GlobalAvgPool2D": ("globalaveragepooling2d", ()),
    "GlobalMaxPooling2D": ("globalmaxpooling2d", ()),
    "GlobalMaxPool2D": ("globalmaxpooling2d", ()),
    "Dropout": ("dropout", ("rate",)),
    "SpatialDropout2D": ("spatialdropout2d", ("rate",)),
    "GaussianNoise": ("gaussiannoise", ("rate",)),
    "GaussianDropout": ("gaussiandropout", ("rate",)),
    "AlphaDropout": ("alphadropout", ("rate",)),
    "BatchNormalization": ("batchnormalization", ("axis", "momentum")),
    "LayerNormalization": ("layernormalization", ()),
    "GroupNormalization": ("groupnormalization", ()),
    "Flatten": ("flatten", ()),
    "Reshape": ("reshape", ("target_shape",)),
    "Permute": ("permute", ()),
    "ZeroPadding2D": ("zeropadding2d", ("padding",)),
    "Cropping2D": ("cropping2d", ()),
    "UpSampling2D": ("upsampling2d", ()),
    "Activation": ("activation", ("activation",)),
    "ReLU": ("relu", ()),
    "LeakyReLU": ("leakyrelu", ("alpha",)),
    "PReLU": ("prelu", ()),
    "ELU": ("elu", ()),
    "ThresholdedReLU": ("relu", ()),
    "Softmax": ("softmax", ()),
    "Add": ("add", ()),
    "Concatenate": ("concatenate", ()),
    "Multiply": ("multiply", ()),
    "Average": ("average", ()),
    "Maximum": ("maximum", ()),
    "Lambda": ("lambda", ("function",)),
    "Rescaling": ("rescaling", ("scale", "offset")),
    "Normalization": ("normalization", ()),
    "Resizing": ("resizing", ()),
    "CenterCrop": ("centercrop", ()),
    "RandomFlip": ("randomflip", ("mode",)),
    "RandomRotation": ("randomrotation", ("factor",)),
    "RandomZoom": ("randomzoom", ("height_factor", "width_factor")),
    "RandomTranslation": ("randomtranslation", ("height_factor", "width_factor")),
    "RandomContrast": ("randomcontrast", ("factor",)),
    "RandomBrightness": ("randombrightness", ("factor",)),
    "RandomHeight": ("randomheight", ("factor",)),
    "RandomWidth": ("randomwidth", ("factor",)),
    "RandomCrop": ("randomcrop", ("height", "width")),
    "InputLayer": ("input", ("input_shape",)),
    "Embedding": ("embedding", ("input_dim", "units")),
    "LSTM": ("lstm", ("units", "activation")),
    "GRU": ("gru", ("units", "activation")),
    "SimpleRNN": ("simplernn", ("units", "activation")),
    "Bidirectional": ("bidirectional", ("layer",)),
    "TimeDistributed": ("timedistributed", ("layer",)),
    "MaxoutDense": ("dense", ("units",)),
    "Merge": ("concatenate", ()),
}
MERGE_FUNCTIONS = {"concatenate", "add", "multiply", "average", "maximum", "merge", "subtract", "dot"}
# older names of Keras' arguments -> today's, for reading only
OLD_ARGUMENTS = {
    "output_dim": "units",
    "nb_filter": "filters",
    "nb_filters": "filters",
    "p": "rate",
    "border_mode": "padding",
    "subsample": "strides",
    "init": "kernel_initializer",
    "nb_epoch": "epochs",
    "negative_slope": "alpha",
}
TORCH_LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Linear": ("dense", ("in_features", "units")),
    "LazyLinear": ("dense", ("units",)),
    "Conv1d": ("conv1d", ("in_channels", "filters", "kernel_size")),
    "Conv2d": ("conv2d", ("in_channels", "filters", "kernel_size", "strides", "padding")),
    "LazyConv2d": ("conv2d", ("filters", "kernel_size")),
    "ConvTranspose2d": ("conv2dtranspose", ("in_channels", "filters", "kernel_size")),
    "BatchNorm1d": ("batchnormalization", ("num_features",)),
    "BatchNorm2d": ("batchnormalization", ("num_features",)),
    "LazyBatchNorm2d": ("batchnormalization", ()),
    "GroupNorm": ("groupnormalization", ()),
    "LayerNorm": ("layernormalization", ()),
    "InstanceNorm2d": ("instancenormalization", ()),
    "MaxPool2d": ("maxpooling2d", ("pool_size", "strides")),
    "AvgPool2d": ("averagepooling2d", ("pool_size", "strides")),
    "AdaptiveAvgPool2d": ("globalaveragepooling2d", ()),
    "AdaptiveMaxPool2d": ("globalmaxpooling2d", ()),
    "Dropout": ("dropout", ("rate",)),
    "Dropout2d": ("spatialdropout2d", ("rate",)),
    "AlphaDropout": ("alphadropout", ("rate",)),
    "Flatten": ("flatten", ()),
    "Unflatten": ("reshape", ()),
    "Identity": ("identity", ()),
    "Upsample": ("upsampling2d", ()),
    "ZeroPad2d": ("zeropadding2d", ()),
    "LSTM": ("lstm", ("in_features", "units")),
    "GRU": ("gru", ("in_features", "units")),
    "Embedding": ("embedding", ("input_dim", "units")),
    "ReLU": ("relu", ()),
    "ReLU6": ("relu6", ()),
    "LeakyReLU": ("leakyrelu", ("alpha",)),
    "PReLU": ("prelu", ()),
    "ELU": ("elu", ()),
    "SELU": ("selu", ()),
    "GELU": ("gelu", ()),
    "SiLU": ("silu", ()),
    "Hardswish": ("hardswish", ()),
    "Mish": ("mish", ()),
    "Tanh": ("tanh", ()),
    "Sigmoid": ("sigmoid", ()),
    "Softmax": ("softmax", ()),
    "LogSoftmax": ("logsoftmax", ()),
    "Softplus": ("softplus", ()),
}
ACTIVATIONS = {
    *("relu", "relu6", "leakyrelu", "prelu", "elu", "selu", "gelu", "silu", "swish", "hardswish", "mish", "tanh"),
    *("sigmoid", "softmax", "logsoftmax", "softplus", "softsign", "hardsigmoid", "exponential", "linear", "logsigmoid"),
}
WEIGHTED = {
    *("dense", "conv1d", "conv2d", "conv3d", "separableconv2d", "depthwiseconv2d", "conv2dtranspose"),
    "locallyconnected2d",
}
OPTIMIZERS = {"sgd", "adam", "adamw", "adamax", "nadam", "radam", "rmsprop", "adagrad", "adadelta", "ftrl", "lion"}
OPTIMIZERS |= {"adafactor", "lamb", "asgd", "rprop", "lbfgs", "sparseadam", "muon", "momentum"}
CALLBACKS = {
    *("EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau", "LearningRateScheduler", "TensorBoard", "CSVLogger"),
    *("LambdaCallback", "TerminateOnNaN", "RemoteMonitor", "BackupAndRestore", "ProgbarLogger", "TQDMNotebookCallback"),
}
# names as nearly every program binds them
WELL_KNOWN = {
    "keras": "keras",
    "tf": "tensorflow",
    "np": "numpy",
    "torch": "torch",
    "nn": "torch.nn",
    "F": "torch.nn.functional",
    "optim": "torch.optim",
    "transforms": "torchvision.transforms",
    "Sequential": "keras.models.Sequential",
    "ImageDataGenerator": "keras.preprocessing.image.ImageDataGenerator",
    "to_categorical": "keras.utils.to_categorical",
    "DataLoader": "torch.utils.data.DataLoader",
}
LOSS_WORDS = {
    "mse": "meansquarederror",
    "mae": "meanabsoluteerror",
    "kld": "kldivergence",
    "kldiv": "kldivergence",
    "kullbackleiblerdivergence": "kldivergence",
    "mape": "meanabsolutepercentageerror",
    "crossentropyloss": "crossentropy",
    "nllloss": "nll",
    "mseloss": "meansquarederror",
    "l1loss": "meanabsoluteerror",
    "smoothl1loss": "huber",
    "bceloss": "binarycrossentropy",
    "bcewithlogitsloss": "binarycrossentropy",
    "multimarginloss": "hinge",
    "multilabelmarginloss": "hinge",
    "binarycrossentropywithlogits": "binarycrossentropy",
    "nllloss2d": "nll",
    "softmaxcrossentropywithlogits": "categoricalcrossentropy",
    "sparsesoftmaxcrossentropywithlogits": "sparsecategoricalcrossentropy",
    "sigmoidcrossentropywithlogits": "binarycrossentropy",
}
LOSSES = {*LOSS_WORDS.values(), "categoricalcrossentropy", "sparsecategoricalcrossentropy", "binarycrossentropy"}
LOSSES |= {
    "hinge",
    "categoricalhinge",
    "squaredhinge",
    "poisson",
    "cosinesimilarity",
    "huber",
    "binaryfocalcrossentropy",
}
LOSSES |= {"categoricalfocalcrossentropy", "logcosh", "meansquaredlogarithmicerror", "kldivergence"}
# name -> (train images, test images, shape, classes, largest value, mean, standard deviation)
DATASETS: dict[str, tuple[int, int, tuple[int, ...], int, float, float | None, float | None]] = {
    "mnist": (60_000, 10_000, (28, 28), 10, 255.0, 33.32, 78.57),
    "fashionmnist": (60_000, 10_000, (28, 28), 10, 255.0, 72.94, 90.02),
    "kmnist": (60_000, 10_000, (28, 28), 10, 255.0, 48.9, 88.8),
    "cifar10": (50_000, 10_000, (32, 32, 3), 10, 255.0, 120.71, 64.15),
    "cifar100": (50_000, 10_000, (32, 32, 3), 100, 255.0, 121.94, 68.39),
    "svhn": (73_257, 26_032, (32, 32, 3), 10, 255.0, None, None),
}


def plain(name: str) -> str:
    """A name without case and separators: "Categorical_CrossEntropy" -> "categoricalcrossentropy"."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def loss_word(name: str) -> str:
    """The neutral name of a loss."""
    word = plain(name)
    return LOSS_WORDS.get(word, word)


def canonical(path: str) -> str:
    """A dotted name with one root for all of Keras' homes."""
    for prefix in ("tensorflow.compat.v1", "tensorflow.compat.v2"):
        if path.startswith(prefix):
            path = "tensorflow" + path[len(prefix) :]
    for prefix in (
        "tensorflow.python.keras",
        "tensorflow.contrib.keras",
        "tensorflow.keras",
        "tensorflow.contrib.keras",
        "tensorflow_addons",
    ):
        if path == prefix or path.startswith(prefix + "."):
            path = "keras" + path[len(prefix) :]
    for prefix in ("keras.src", "keras.api", "keras._tf_keras.keras", "keras.api._v2.keras", "keras.python"):
        if path.startswith(prefix + "."):
            path = "keras" + path[len(prefix) :]
    roots = {"keras_preprocessing": "keras.preprocessing", "keras_applications": "keras.applications", "np": "numpy"}
    root = path.split(".", 1)[0]
    return roots[root] + path[len(root) :] if root in roots else path
