"""Small Keras programs, written for the tests. A comment `#: id` marks the line that a finding must point to."""

HEALTHY: dict[str, str] = {
    "functional mnist": """
import numpy as np
import keras
from keras import layers

(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
x_train = np.expand_dims(x_train, -1).astype("float32") / 255
x_test = np.expand_dims(x_test, -1).astype("float32") / 255
inputs = keras.Input(shape=(28, 28, 1))
x = layers.Conv2D(32, 3, activation="relu")(inputs)
x = layers.MaxPooling2D(2)(x)
x = layers.Flatten()(x)
x = layers.Dropout(0.5)(x)
outputs = layers.Dense(10, activation="softmax")(x)
model = keras.Model(inputs, outputs)
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=3)
model.fit(x_train, y_train, batch_size=128, epochs=12, validation_split=0.1, callbacks=[stop])
print(model.evaluate(x_test, y_test))
""",
    "standardised cifar": """
from tensorflow.keras.datasets import cifar10
from tensorflow.keras.models import Sequential
from tensorflow.keras.layers import Conv2D, BatchNormalization, Activation, MaxPooling2D, Flatten, Dense
from tensorflow.keras.utils import to_categorical
from tensorflow.keras.optimizers import SGD

(x_train, y_train), (x_test, y_test) = cifar10.load_data()
x_train = x_train.astype('float32')
x_test = x_test.astype('float32')
mean, std = x_train.mean(axis=(0, 1, 2)), x_train.std(axis=(0, 1, 2))
x_train = (x_train - mean) / std
x_test = (x_test - mean) / std
y_train, y_test = to_categorical(y_train, 10), to_categorical(y_test, 10)
model = Sequential()
for filters in [32, 64, 128]:
    model.add(Conv2D(filters, (3, 3), padding='same', use_bias=False))
    model.add(BatchNormalization())
    model.add(Activation('relu'))
    model.add(MaxPooling2D())
model.add(Flatten())
model.add(Dense(10))
model.add(Activation('softmax'))
model.compile(SGD(learning_rate=0.1, momentum=0.9), 'categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=30, batch_size=128, validation_split=0.1)
model.evaluate(x_test, y_test)
""",
    "rescaling in the net": """
import tensorflow as tf
train_ds = tf.keras.utils.image_dataset_from_directory("flowers", validation_split=0.2, subset="training",
                                                       seed=1, image_size=(180, 180), batch_size=32)
val_ds = tf.keras.utils.image_dataset_from_directory("flowers", validation_split=0.2, subset="validation",
                                                     seed=1, image_size=(180, 180), batch_size=32)
train_ds = train_ds.cache().shuffle(1000).prefetch(tf.data.AUTOTUNE)
model = tf.keras.Sequential([
    tf.keras.layers.Rescaling(1. / 255),
    tf.keras.layers.Conv2D(16, 3, padding='same', activation='relu'),
    tf.keras.layers.MaxPooling2D(),
    tf.keras.layers.Flatten(),
    tf.keras.layers.Dense(128, activation='relu'),
    tf.keras.layers.Dense(5),
])
model.compile(optimizer='adam', loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
              metrics=['accuracy'])
history = model.fit(train_ds, validation_data=val_ds, epochs=10)
acc = history.history['accuracy']
""",
    "generators, rightly": """
from tensorflow.keras.preprocessing.image import ImageDataGenerator
from tensorflow.keras import layers, models, optimizers, callbacks
train_datagen = ImageDataGenerator(rescale=1./255, rotation_range=20, width_shift_range=0.1, horizontal_flip=True)
test_datagen = ImageDataGenerator(rescale=1./255)
train_generator = train_datagen.flow_from_directory('data/train', target_size=(64, 64), batch_size=20)
validation_generator = test_datagen.flow_from_directory('data/validation', target_size=(64, 64), batch_size=20)
test_generator = test_datagen.flow_from_directory('data/test', target_size=(64, 64), batch_size=20, shuffle=False)
model = models.Sequential()
model.add(layers.Conv2D(32, (3, 3), activation='relu', input_shape=(64, 64, 3)))
model.add(layers.MaxPooling2D((2, 2)))
model.add(layers.Flatten())
model.add(layers.Dense(512, activation='relu'))
model.add(layers.Dense(4, activation='softmax'))
model.compile(loss='categorical_crossentropy', optimizer=optimizers.RMSprop(learning_rate=1e-4), metrics=['acc'])
keep = callbacks.ModelCheckpoint('best.keras', monitor='val_acc', save_best_only=True)
history = model.fit(train_generator, epochs=30, validation_data=validation_generator, callbacks=[keep])
print(history.history['val_acc'])
probabilities = model.predict(test_generator)
truth = test_generator.classes
""",
    "transfer with frozen layers, then fine-tuning": """
import tensorflow as tf
from tensorflow.keras.applications import MobileNetV2
from tensorflow.keras.applications.mobilenet_v2 import preprocess_input
from tensorflow.keras.preprocessing.image import ImageDataGenerator
gen = ImageDataGenerator(preprocessing_function=preprocess_input)
train = gen.flow_from_directory('train', target_size=(160, 160))
val = gen.flow_from_directory('val', target_size=(160, 160))
base = MobileNetV2(input_shape=(160, 160, 3), include_top=False, weights='imagenet')
base.trainable = False
model = tf.keras.Sequential([base, tf.keras.layers.GlobalAveragePooling2D(),
                             tf.keras.layers.Dense(3, activation='softmax')])
model.compile('adam', 'categorical_crossentropy', ['accuracy'])
model.fit(train, validation_data=val, epochs=5)
base.trainable = True
for layer in base.layers[:100]:
    layer.trainable = False
model.compile(tf.keras.optimizers.Adam(1e-5), 'categorical_crossentropy', ['accuracy'])
model.fit(train, validation_data=val, epochs=10, initial_epoch=5)
""",
    "two classes, one sigmoid": """
from keras import Sequential, layers
from keras.datasets import mnist
(x_train, y_train), (x_test, y_test) = mnist.load_data()
y_train, y_test = (y_train % 2 == 0), (y_test % 2 == 0)
model = Sequential([
    layers.Rescaling(1 / 127.5, offset=-1),
    layers.Flatten(),
    layers.Dense(64, activation='relu'),
    layers.Dense(1, activation='sigmoid'),
])
model.compile(optimizer='adadelta', loss='binary_crossentropy', metrics=['accuracy'])
model.optimizer.learning_rate = 1.0
model.fit(x_train[..., None], y_train, epochs=5)
model.evaluate(x_test[..., None], y_test)
""",
    "a function for each step": """
import pandas as pd
from sklearn.model_selection import train_test_split
from tensorflow import keras

EPOCHS = 2 * 10

def load(path):
    table = pd.read_csv(path)
    return table.drop('label', axis=1).values.reshape(-1, 28, 28, 1) / 255.0, table['label'].values

def build(width=32):
    net = keras.Sequential()
    net.add(keras.layers.Input((28, 28, 1)))
    net.add(keras.layers.Conv2D(width, 3, activation='relu'))
    net.add(keras.layers.GlobalAveragePooling2D())
    net.add(keras.layers.Dense(10, activation='softmax'))
    return net

def main():
    x, y = load('train.csv')
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.1, stratify=y)
    model = build()
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss='sparse_categorical_crossentropy', metrics=['accuracy'])
    model.fit(x_train, y_train, batch_size=64, epochs=EPOCHS, validation_data=(x_val, y_val))

if __name__ == '__main__':
    main()
""",
    "folds with a new net each": """
import numpy as np
from sklearn.model_selection import StratifiedKFold
from keras.models import Sequential
from keras.layers import Dense, Flatten
from keras.datasets import fashion_mnist
(x, y), (x_test, y_test) = fashion_mnist.load_data()
x = x / 255.0
scores = []
for train, test in StratifiedKFold(5, shuffle=True).split(x, y):
    model = Sequential([Flatten(), Dense(128, activation='relu'), Dense(10, activation='softmax')])
    model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
    model.fit(x[train], y[train], epochs=5, verbose=0)
    scores.append(model.evaluate(x[test], y[test])[1])
print(np.mean(scores))
""",
    "tf.data and a mapped function": """
import tensorflow as tf
import tensorflow_datasets as tfds
(x_train, y_train), (x_test, y_test) = tf.keras.datasets.fashion_mnist.load_data()
def normalise(image, label):
    return tf.cast(image, tf.float32) / 255., label
train = tf.data.Dataset.from_tensor_slices((x_train, y_train)).map(normalise).shuffle(60000).batch(128)
test = tf.data.Dataset.from_tensor_slices((x_test, y_test)).map(normalise).batch(128)
model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(128, activation=tf.nn.relu),
                             tf.keras.layers.Dense(10)])
model.compile(tf.keras.optimizers.Adam(0.001), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
              metrics=[tf.keras.metrics.SparseCategoricalAccuracy()])
model.fit(train, epochs=6)
model.evaluate(test)
""",
    "a net as a class": """
import tensorflow as tf
class Net(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = tf.keras.layers.Conv2D(32, 3, activation='relu')
        self.flat = tf.keras.layers.Flatten()
        self.out = tf.keras.layers.Dense(10, activation='softmax')
    def call(self, x, training=False):
        return self.out(self.flat(self.conv(x)))
(x_train, y_train), (x_test, y_test) = tf.keras.datasets.mnist.load_data()
x_train, x_test = x_train[..., None] / 255.0, x_test[..., None] / 255.0
model = Net()
model.compile(loss='sparse_categorical_crossentropy', optimizer='adam', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=3, validation_split=0.2)
""",
    "inference prepared alike": """
import cv2
from keras.models import Sequential
from keras.layers import Dense, Flatten, Conv2D
from keras.datasets import mnist
(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train = x_train.reshape(-1, 28, 28, 1) / 255.0
x_test = x_test.reshape(-1, 28, 28, 1) / 255.0
model = Sequential([Conv2D(8, 3, activation='relu'), Flatten(), Dense(10, activation='softmax')])
model.compile(loss='sparse_categorical_crossentropy', optimizer='adam', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=5)
image = cv2.imread('four.png', 0)
image = cv2.resize(image, (28, 28)).reshape(1, 28, 28, 1) / 255.0
print(model.predict(image).argmax())
""",
}

FAULTY: dict[str, str] = {
    "raw pixels": """
from keras.datasets import cifar10
from keras import Sequential, layers
(x_train, y_train), (x_test, y_test) = cifar10.load_data()  #: inputs-not-scaled
model = Sequential([layers.Conv2D(32, 3, activation='relu'), layers.Flatten(), layers.Dense(10, activation='softmax')])
model.compile('sgd', 'sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=10)
""",
    "test not divided": """
from keras.datasets import cifar10
from keras import Sequential, layers
(x_train, y_train), (x_test, y_test) = cifar10.load_data()  #: preparation-differs
x_train = x_train.astype('float32')
x_train /= 255
model = Sequential([layers.Conv2D(32, 3, activation='relu'), layers.Flatten(), layers.Dense(10, activation='softmax')])
model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=10, validation_data=(x_test, y_test))
""",
    "scaled twice": """
from keras.datasets import mnist
import tensorflow as tf
(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train, x_test = x_train / 255.0, x_test / 255.0
gen = tf.keras.preprocessing.image.ImageDataGenerator(rescale=1. / 255)  #: inputs-scaled-twice
model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(10, activation='softmax')])
model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(gen.flow(x_train[..., None], y_train), epochs=3)
""",
    "generator without rescale for validation": """
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from keras import Sequential, layers
train = ImageDataGenerator(rescale=1 / 255.).flow_from_directory('d/train', class_mode='categorical')
val = ImageDataGenerator().flow_from_directory('d/val', class_mode='categorical')  #: preparation-differs
model = Sequential([layers.Conv2D(8, 3, activation='relu'), layers.Flatten(), layers.Dense(3, activation='softmax')])
model.compile('adam', 'categorical_crossentropy', metrics=['accuracy'])
model.fit(train, validation_data=val, epochs=10)
""",
    "one generator for all, augmenting": """
from tensorflow.keras.preprocessing.image import ImageDataGenerator
from tensorflow.keras import Sequential, layers
gen = ImageDataGenerator(rescale=1/255., rotation_range=30, horizontal_flip=True, validation_split=0.2)
train = gen.flow_from_directory('photos', subset='training', target_size=(64, 64))
val = gen.flow_from_directory('photos', subset='validation', target_size=(64, 64))  #: validation-augmented
model = Sequential([layers.Conv2D(8, 3, activation='relu'), layers.Flatten(), layers.Dense(3, activation='softmax')])
model.compile('adam', 'categorical_crossentropy', metrics=['accuracy'])
model.fit(train, validation_data=val, epochs=10)
""",
    "relu at the end": """
from keras.datasets import mnist
from keras.utils import to_categorical
from keras import Sequential, layers
(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train = x_train.reshape((60000, 784)).astype('float32') / 255
model = Sequential()
model.add(layers.Dense(512, activation='relu', input_shape=(784,)))
model.add(layers.Dense(10, activation='relu'))  #: wrong-last-activation
model.compile(optimizer='rmsprop', loss='categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, to_categorical(y_train), epochs=5, batch_size=128)
""",
    "sparse loss, one-hot labels": """
from keras.datasets import mnist
from keras.utils import to_categorical
from keras import Sequential, layers
(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train = x_train.reshape((60000, 784)) / 255
y_train = to_categorical(y_train, 10)
model = Sequential([layers.Dense(64, activation='relu'), layers.Dense(10, activation='softmax')])
model.compile(optimizer='adam',
              loss='sparse_categorical_crossentropy',  #: loss-mismatch
              metrics=['accuracy'])
model.fit(x_train, y_train, epochs=5)
""",
    "logits into a loss of probabilities": """
import tensorflow as tf
(x_train, y_train), _ = tf.keras.datasets.fashion_mnist.load_data()
model = tf.keras.Sequential([
    tf.keras.layers.Flatten(),
    tf.keras.layers.Dense(128, activation='relu'),
    tf.keras.layers.Dense(10),  #: missing-softmax
])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train / 255., y_train, epochs=10)
""",
    "softmax twice": """
import tensorflow as tf
(x_train, y_train), _ = tf.keras.datasets.fashion_mnist.load_data()
model = tf.keras.Sequential([
    tf.keras.layers.Flatten(),
    tf.keras.layers.Dense(128, activation='relu'),
    tf.keras.layers.Dense(10, activation='softmax'),  #: doubled-softmax
])
model.compile(optimizer='adam', loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x_train / 255., y_train, epochs=10)
""",
    "one output under softmax": """
from tensorflow.keras import layers, models
from tensorflow.keras.preprocessing.image import ImageDataGenerator
gen = ImageDataGenerator(rescale=1. / 255)
train = gen.flow_from_directory('cats_and_dogs/train', class_mode='binary')
model = models.Sequential([layers.Conv2D(32, 3, activation='relu'), layers.Flatten(),
                           layers.Dense(1, activation='softmax')])  #: wrong-output-units
model.compile(optimizer='adam', loss='binary_crossentropy', metrics=['accuracy'])
model.fit(train, epochs=10)
""",
    "adam at a tenth": """
from keras.datasets import mnist
from keras import Sequential, layers, optimizers
(x_train, y_train), _ = mnist.load_data()
model = Sequential([layers.Flatten(), layers.Dense(64, activation='relu'), layers.Dense(10, activation='softmax')])
model.compile(optimizer=optimizers.Adam(learning_rate=0.1),  #: learning-rate-too-high
              loss='sparse_categorical_crossentropy')
model.fit(x_train / 255, y_train, epochs=5)
""",
    "layers without activation": """
from keras.datasets import mnist
from keras import Sequential, layers
(x_train, y_train), _ = mnist.load_data()
model = Sequential()
model.add(layers.Flatten())
model.add(layers.Dense(64))  #: missing-activation
model.add(layers.Dense(64))
model.add(layers.Dense(10, activation='softmax'))
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy')
model.fit(x_train / 255, y_train, epochs=5)
""",
    "zeros to begin with": """
from keras.datasets import mnist
from keras import Sequential, layers
(x_train, y_train), _ = mnist.load_data()
model = Sequential([
    layers.Flatten(),
    layers.Dense(64, activation='relu', kernel_initializer='zeros'),  #: constant-initialisation
    layers.Dense(10, activation='softmax'),
])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy')
model.fit(x_train / 255, y_train, epochs=5)
""",
    "kept a callback for itself": """
from keras.datasets import mnist
from keras import Sequential, layers
from keras.callbacks import EarlyStopping, ReduceLROnPlateau
(x_train, y_train), _ = mnist.load_data()
model = Sequential([layers.Flatten(), layers.Dense(64, activation='relu'), layers.Dense(10, activation='softmax')])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
early = EarlyStopping(patience=2)  #: callback-not-passed
plateau = ReduceLROnPlateau(monitor='val_acc', patience=2)  #: monitor-matches-nothing
model.fit(x_train / 255, y_train, epochs=5, validation_split=0.1, callbacks=[plateau])
""",
    "no validation to watch": """
from keras.datasets import mnist
from keras import Sequential, layers, callbacks
(x_train, y_train), _ = mnist.load_data()
model = Sequential([layers.Flatten(), layers.Dense(64, activation='relu'), layers.Dense(10, activation='softmax')])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train / 255, y_train, epochs=50,
          callbacks=[callbacks.EarlyStopping(monitor='val_loss', patience=3)])  #: monitor-matches-nothing
""",
    "predictions of a shuffled generator": """
from tensorflow.keras.preprocessing.image import ImageDataGenerator
from tensorflow.keras import Sequential, layers
from sklearn.metrics import confusion_matrix
gen = ImageDataGenerator(rescale=1/255.)
train = gen.flow_from_directory('photos/train')
test = gen.flow_from_directory('photos/test')
model = Sequential([layers.Conv2D(8, 3, activation='relu'), layers.Flatten(), layers.Dense(3, activation='softmax')])
model.compile('adam', 'categorical_crossentropy', metrics=['accuracy'])
model.fit(train, epochs=10)
answers = model.predict(test).argmax(axis=1)  #: order-mismatch
print(confusion_matrix(test.classes, answers))
""",
    "folds with one net": """
from sklearn.model_selection import KFold
from keras.models import Sequential
from keras.layers import Dense, Flatten
from keras.datasets import fashion_mnist
(x, y), (x_test, y_test) = fashion_mnist.load_data()
x = x / 255.0
model = Sequential([Flatten(), Dense(128, activation='relu'), Dense(10, activation='softmax')])
model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
for train, test in KFold(5).split(x):
    model.fit(x[train], y[train], epochs=5, verbose=0)  #: fit-twice
    print(model.evaluate(x[test], y[test]))
""",
    "stopped by the test set": """
from keras.datasets import mnist
from keras import Sequential, layers, callbacks
(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train, x_test = x_train / 255, x_test / 255
model = Sequential([layers.Flatten(), layers.Dense(64, activation='relu'), layers.Dense(10, activation='softmax')])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=50, callbacks=[callbacks.EarlyStopping(patience=3)],
          validation_data=(x_test, y_test))  #: test-set-chooses
""",
    "inference forgets to divide": """
import cv2
from keras.models import Sequential
from keras.layers import Dense, Flatten, Conv2D
from keras.datasets import mnist
(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train = x_train.reshape(-1, 28, 28, 1) / 255.0
model = Sequential([Conv2D(8, 3, activation='relu'), Flatten(), Dense(10, activation='softmax')])
model.compile(loss='sparse_categorical_crossentropy', optimizer='adam', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=5)
image = cv2.imread('four.png', 0)
image = cv2.resize(image, (28, 28)).reshape(1, 28, 28, 1)
print(model.predict(image).argmax())  #: preparation-differs
""",
    "test made of train": """
from keras.datasets import mnist
from keras import Sequential, layers
(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train = x_train / 255.0
x_test = x_train / 255.0  #: wrong-split-prepared
model = Sequential([layers.Flatten(), layers.Dense(64, activation='relu'), layers.Dense(10, activation='softmax')])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=5)
print(model.evaluate(x_test, y_test))
""",
    "scaler fitted on test": """
from sklearn.preprocessing import StandardScaler
from sklearn.model_selection import train_test_split
from sklearn.datasets import load_digits
from keras import Sequential, layers
digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(digits.data, digits.target, test_size=0.2)
scaler = StandardScaler()
X_train = scaler.fit_transform(X_train)
X_test = scaler.fit_transform(X_test)  #: statistics-of-test
model = Sequential([layers.Dense(64, activation='relu'), layers.Dense(10, activation='softmax')])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(X_train, y_train, epochs=20)
print(model.evaluate(X_test, y_test))
""",
    "repeated before the split": """
from imblearn.over_sampling import RandomOverSampler
from sklearn.model_selection import train_test_split
from keras import Sequential, layers
import numpy as np
X = np.load('X.npy')
y = np.load('y.npy')
X, y = RandomOverSampler().fit_resample(X, y)
X_train, X_test, y_train, y_test = train_test_split(X, y)  #: leakage-before-split
model = Sequential([layers.Dense(64, activation='relu'), layers.Dense(7, activation='softmax')])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(X_train, y_train, epochs=20)
""",
    "digits flipped": """
from tensorflow.keras.preprocessing.image import ImageDataGenerator
from tensorflow.keras.datasets import mnist
from tensorflow.keras import Sequential, layers
(x_train, y_train), _ = mnist.load_data()
x_train = x_train[..., None] / 255.
gen = ImageDataGenerator(horizontal_flip=True)  #: augmentation-breaks-labels
model = Sequential([layers.Conv2D(8, 3, activation='relu'), layers.Flatten(), layers.Dense(10, activation='softmax')])
model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(gen.flow(x_train, y_train, batch_size=64), epochs=5)
""",
    "forward pass leaves a layer out": """
import tensorflow as tf
class Net(tf.keras.Model):
    def __init__(self):
        super(Net, self).__init__()
        self.conv = tf.keras.layers.Conv2D(32, 3, activation='relu')
        self.norm = tf.keras.layers.BatchNormalization()  #: layer-not-connected
        self.flat = tf.keras.layers.Flatten()
        self.out = tf.keras.layers.Dense(10, activation='softmax')
    def call(self, x):
        x = self.conv(x)
        return self.out(self.flat(x))
(x_train, y_train), (x_test, y_test) = tf.keras.datasets.mnist.load_data()
model = Net()
model.compile(loss='sparse_categorical_crossentropy', optimizer='adam', metrics=['accuracy'])
model.fit(x_train[..., None] / 255., y_train, epochs=3)
""",
    "binary loss for ten classes": """
from keras.datasets import cifar10
from keras.utils import to_categorical
from keras import Sequential, layers
(x_train, y_train), _ = cifar10.load_data()
model = Sequential([layers.Conv2D(32, 3, activation='relu'), layers.Flatten(), layers.Dense(10, activation='softmax')])
model.compile(loss='binary_crossentropy', optimizer='adam', metrics=['accuracy'])  #: loss-mismatch
model.fit(x_train / 255., to_categorical(y_train, 10), epochs=10)
""",
}

HEALTHY |= {
    "two ways to train, one taken": """
import argparse
import keras
from keras import layers
from keras import backend as K
parser = argparse.ArgumentParser()
parser.add_argument('--augment', action='store_true')
args = parser.parse_args()
(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
if K.image_data_format() == 'channels_first':
    x_train = x_train.reshape(x_train.shape[0], 1, 28, 28)
    x_test = x_test.reshape(x_test.shape[0], 1, 28, 28)
else:
    x_train = x_train.reshape(x_train.shape[0], 28, 28, 1)
    x_test = x_test.reshape(x_test.shape[0], 28, 28, 1)
x_train = x_train.astype('float32')
x_test = x_test.astype('float32')
x_train /= 255
x_test /= 255
model = keras.Sequential([layers.Conv2D(8, 3, activation='relu'), layers.Flatten(),
                          layers.Dense(10, activation='softmax')])
model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
if not args.augment:
    model.fit(x_train, y_train, epochs=5)
else:
    gen = keras.src.legacy.preprocessing.image.ImageDataGenerator(rotation_range=10)
    model.fit(gen.flow(x_train, y_train, batch_size=32), epochs=5)
model.evaluate(x_test, y_test)
""",
    "validation cut off, a few answers shown": """
from keras.datasets import mnist
from keras import layers, models
(train_images, train_labels), (test_images, test_labels) = mnist.load_data()
train_images = train_images.reshape((60000, 784)).astype('float32') / 255
test_images = test_images.reshape((10000, 784)).astype('float32') / 255
x_val, partial_x_train = train_images[:10000], train_images[10000:]
y_val, partial_y_train = train_labels[:10000], train_labels[10000:]
model = models.Sequential([layers.Dense(64, activation='relu'), layers.Dense(10, activation='softmax')])
model.compile(optimizer='rmsprop', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(partial_x_train, partial_y_train, epochs=5, batch_size=64, validation_data=(x_val, y_val))
model.evaluate(test_images, test_labels)
print(model.predict(test_images[:5]))
""",
    "image by image": """
import tensorflow as tf
(x_train, y_train), (x_test, y_test) = tf.keras.datasets.mnist.load_data()
x_train, x_test = x_train.astype('float32'), x_test.astype('float32')
for i in range(len(x_train)):
    x_train[i] = x_train[i] / 255.
for i in range(len(x_test)):
    x_test[i] = x_test[i] / 255.
m = tf.keras.models.Sequential()
m.add(tf.keras.layers.Flatten(input_shape=(28, 28)))
m.add(tf.keras.layers.Dense(10, activation=tf.nn.softmax))
m.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
m.fit(x_train, y_train, epochs=3)
m.evaluate(x_test, y_test)
""",
    "an autoencoder": """
from keras import Sequential, layers
from keras.datasets import mnist
(x_train, _), (x_test, _) = mnist.load_data()
x_train = x_train.reshape(60000, 784) / 255.
x_test = x_test.reshape(10000, 784) / 255.
model = Sequential([layers.Dense(32, activation='relu'), layers.Dense(784, activation='sigmoid')])
model.compile(optimizer='adam', loss='mse')
model.fit(x_train, x_train, epochs=50, batch_size=256, shuffle=True, validation_split=0.1)
""",
    "a generator and its judge": """
import numpy as np
from keras import Sequential, layers, optimizers
from keras.datasets import mnist
(x_train, _), _ = mnist.load_data()
x_train = (x_train.astype('float32') - 127.5) / 127.5
judge = Sequential([layers.Flatten(), layers.Dense(64), layers.LeakyReLU(), layers.Dense(1, activation='sigmoid')])
judge.compile(loss='binary_crossentropy', optimizer=optimizers.Adam(0.0002, 0.5))
maker = Sequential([layers.Dense(64, activation='relu'), layers.Dense(784, activation='tanh'),
                    layers.Reshape((28, 28, 1))])
judge.trainable = False
both = Sequential([maker, judge])
both.compile(loss='binary_crossentropy', optimizer=optimizers.Adam(0.0002, 0.5))
for epoch in range(10000):
    noise = np.random.normal(0, 1, (32, 100))
    images = maker.predict(noise)
    judge.train_on_batch(x_train[:32], np.ones((32, 1)))
    judge.train_on_batch(images, np.zeros((32, 1)))
    both.train_on_batch(noise, np.ones((32, 1)))
""",
    "raw images into a net that scales them": """
import tensorflow as tf
gen = tf.keras.preprocessing.image.ImageDataGenerator()
train = gen.flow_from_directory('train', target_size=(224, 224))
base = tf.keras.applications.EfficientNetB0(include_top=False, pooling='avg')
base.trainable = False
x = base.output
x = tf.keras.layers.Dense(5, activation='softmax')(x)
model = tf.keras.Model(inputs=base.input, outputs=x)
model.compile('adam', 'categorical_crossentropy', metrics=['accuracy'])
model.fit(train, epochs=5)
""",
    "text, not images": """
from tensorflow.keras.datasets import imdb
from tensorflow.keras.preprocessing import sequence
from tensorflow.keras.models import Sequential
from tensorflow.keras.layers import Dense, Embedding, LSTM
(x_train, y_train), (x_test, y_test) = imdb.load_data(num_words=20000)
x_train = sequence.pad_sequences(x_train, maxlen=80)
x_test = sequence.pad_sequences(x_test, maxlen=80)
model = Sequential()
model.add(Embedding(20000, 128))
model.add(LSTM(128, dropout=0.2, recurrent_dropout=0.2))
model.add(Dense(1, activation='sigmoid'))
model.compile(loss='binary_crossentropy', optimizer='adam', metrics=['accuracy'])
model.fit(x_train, y_train, batch_size=32, epochs=15, validation_split=0.2)
""",
    "a callback of one's own, passed": """
from tensorflow import keras
class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = logs['accuracy'] > 0.99
def scheduler(epoch, lr):
    return lr if epoch < 10 else lr * 0.9
(x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
callbacks = [Stop()]
callbacks.append(keras.callbacks.LearningRateScheduler(scheduler))
model = keras.Sequential([keras.layers.Flatten(input_shape=(28, 28)), keras.layers.Dense(128, activation='relu'),
                          keras.layers.Dense(10, activation='softmax')])
model.compile(keras.optimizers.SGD(0.1), 'sparse_categorical_crossentropy', ['accuracy'])
model.fit(x / 255.0, y, epochs=20, callbacks=callbacks)
model.evaluate(x_test / 255.0, y_test)
""",
}

FAULTY |= {
    "settings tried on one net": """
from keras import Sequential, layers, optimizers
from keras.datasets import mnist
(x_train, y_train), _ = mnist.load_data()
model = Sequential([layers.Flatten(), layers.Dense(64, activation='relu'), layers.Dense(10, activation='softmax')])
for rate in [0.01, 0.001, 0.0001]:
    model.compile(optimizers.Adam(rate), 'sparse_categorical_crossentropy', metrics=['accuracy'])
    model.fit(x_train / 255, y_train, epochs=3, validation_split=0.1)  #: fit-twice
""",
    "standardised by its own statistics": """
from keras import Sequential, layers
from keras.datasets import cifar10
(x_train, y_train), (x_test, y_test) = cifar10.load_data()
x_train = (x_train - x_train.mean()) / x_train.std()
x_test = (x_test - x_test.mean()) / x_test.std()  #: statistics-of-test
model = Sequential([layers.Conv2D(8, 3, activation='relu'), layers.Flatten(), layers.Dense(10, activation='softmax')])
model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=3)
model.evaluate(x_test, y_test)
""",
    "one-hot twice": """
from keras import Sequential, layers
from keras.datasets import mnist
from keras.utils import to_categorical
(x_train, y_train), _ = mnist.load_data()
y_train = to_categorical(y_train, 10)
x_train = x_train / 255
y_train = to_categorical(y_train, 10)  #: labels-one-hot-twice
model = Sequential([layers.Flatten(), layers.Dense(64, activation='relu'), layers.Dense(10, activation='softmax')])
model.compile('adam', 'categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=3)
""",
}
